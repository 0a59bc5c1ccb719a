//! `crunch-api`: HTTP in, broker out.

fn main() -> std::process::ExitCode {
    crunch_api::main()
}
