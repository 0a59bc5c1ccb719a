//! `crunch-api load-functions`: loads the functions of this version into Redis, for processes whose Redis users may
//! not, and deletes those of versions that are no longer used.

use std::io::Write;
use std::time::Duration;

use crunch_common::Broker;
use crunch_common::broker::BrokerConfig;
use crunch_common::broker::{OtherLibrary, Pruned};

use crate::config::LoadFunctionsOptions;
use crate::error::Error;

/// Four heartbeats of a worker with the longest lease, which is an hour: no live process is silent for this long.
const UNUSED: Duration = Duration::from_secs(3600);

pub(crate) fn load(config: &BrokerConfig, options: &LoadFunctionsOptions) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let broker = Broker::new(config)?;
    let name = runtime.block_on(broker.load_functions())?;
    // A write error is ignored: standard output may be closed, and the exit code carries the result.
    let _ = writeln!(std::io::stdout(), "{name} is loaded");
    if options.prune {
        for other in runtime.block_on(broker.prune_functions(UNUSED))? {
            let _ = writeln!(std::io::stdout(), "{}", describe(&other));
        }
    }
    Ok(())
}

fn describe(OtherLibrary { name, outcome }: &OtherLibrary) -> String {
    let age = |age: &Duration| format!("{} s", age.as_secs());
    match outcome {
        Pruned::Deleted(unused) => format!("{name} is deleted: unused for {}", age(unused)),
        Pruned::Kept(unused) => {
            format!("{name} is kept: unused for {}, of {} needed", age(unused), age(&UNUSED))
        }
        _ => format!(
            "{name} is kept: its version does not report its use; when no process of that version is left, delete it with FUNCTION DELETE {name}"
        ),
    }
}
