//! The program `crunch-api`.

fn main() -> std::process::ExitCode {
    crunch_api::main()
}
