//! `crunch-api` for tests: the same `main`, built with the tests, so that it is never older than they are.

fn main() -> std::process::ExitCode {
    crunch_api::main()
}
