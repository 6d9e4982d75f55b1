//! The program `isthmus-spoke`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    isthmus_spoke::main_with_args(std::env::args_os().collect()).await
}
