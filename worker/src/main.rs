//! `crunch-worker`: the stock worker.

fn main() -> std::process::ExitCode {
    crunch_worker::main(Vec::new())
}
