//! The program `isthmus-hub`; all of it is in the library.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    isthmus_hub::main_with_args(std::env::args_os().collect()).await
}
