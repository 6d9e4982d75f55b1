//! The lab's programs, as one executable.
fn main() -> std::process::ExitCode {
    isthmus_lab::programs::main()
}
