//! `crunch-api` as tests start it: the very same `main`, built with them, so that it is never older than they are.

fn main() -> std::process::ExitCode {
    crunch_api::main()
}
