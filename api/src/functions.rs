//! `crunch-api load-functions`: puts the functions of this version into Redis, for processes whose users may not.

use std::io::Write;

use crunch_common::Broker;
use crunch_common::config::BrokerConfig;

use crate::server::StartError;

pub(crate) fn load(config: &BrokerConfig) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let broker = Broker::new(config)?;
    let name = runtime.block_on(broker.load_functions())?;
    // The exit code says it too, if nobody reads.
    let _ = writeln!(std::io::stdout(), "{name} is loaded");
    Ok(())
}
