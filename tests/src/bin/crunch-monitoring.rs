//! `crunch-monitoring`: writes the alarms for Prometheus and the dashboard for Grafana from their tables,
//! `tests/src/monitoring`.

#![expect(clippy::print_stdout, reason = "the names of the files are the output of this program")]

use std::path::Path;

fn main() -> std::io::Result<()> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().expect("the folder of a crate of this repository has a parent");
    for (path, text) in crunch_tests::monitoring::files() {
        std::fs::write(root.join(path), text)?;
        println!("{path}");
    }
    Ok(())
}
