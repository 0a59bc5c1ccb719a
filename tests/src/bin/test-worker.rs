//! The stock worker, with the tasks of the tests in addition to its own.

fn main() -> std::process::ExitCode {
    crunch_worker::main(crunch_tests::tasks::all())
}
