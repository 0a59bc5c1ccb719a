//! The stock worker with the tasks of the tests beside its own.

fn main() -> std::process::ExitCode {
    crunch_worker::main(crunch_tests::tasks::all())
}
