//! The program `isthmus`; everything is in the library.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    isthmus::main_with_args(std::env::args_os().collect()).await
}
