//! How Redis is.

use actix_web::web;
use askama::Template;
use crunch_common::broker::{NodeHealth, NodeState};

use super::page::{Page, Section};
use super::text;
use super::viewer::Viewer;
use crate::problem::{FORBIDDEN, Problem};
use crate::state::App;

#[derive(Template)]
#[template(path = "dashboard/system.html")]
struct System {
    nodes: Vec<NodeHealth>,
    version: &'static str,
    /// The percent of Redis' memory from which it accepts no new jobs.
    watermark: u8,
}

impl System {
    /// The partitions of a node, as text.
    fn partitions(node: &NodeHealth) -> String {
        let numbers: Vec<_> = node.partitions.iter().map(|it| it.number().to_string()).collect();
        numbers.join(", ")
    }

    /// The share of its memory that a node uses, in thousandths.
    fn memory(state: &NodeState, max: u64) -> u64 {
        state.used_memory.saturating_mul(1000) / max.max(1)
    }

    fn refused_from(&self, max: u64) -> u64 {
        max / 100 * u64::from(self.watermark)
    }

    fn round_trip(state: &NodeState) -> String {
        format!("{:.2}\u{202f}ms", state.round_trip.as_secs_f64() * 1000.0)
    }
}

pub(super) async fn page(app: &web::Data<App>, viewer: &Viewer) -> Result<Page, Problem> {
    if viewer.caller.queues().is_some() {
        let detail = "the state of Redis concerns all queues, and this key is limited to some";
        return Err(Problem::new(FORBIDDEN, detail));
    }
    let nodes = app.broker.system().await;
    let template = System {
        nodes,
        version: env!("CARGO_PKG_VERSION"),
        watermark: app.broker.memory_watermark(),
    };
    Page::new("System", Section::System, &template)
}
