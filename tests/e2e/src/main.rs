//! The lab programs, as one binary that the tests can start.
fn main() -> std::process::ExitCode {
    isthmus_lab::programs::main()
}
