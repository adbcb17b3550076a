//! `cargo run`: a release on this machine.

fn main() -> std::process::ExitCode {
    local::cli::main()
}
