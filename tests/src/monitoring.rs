//! Alarms for Prometheus and a dashboard for Grafana, from two tables: [`ALERTS`] and [`PANELS`].
//!
//! `crunch-monitoring` writes the files from them, and tests compare the files with the tables, the queries with
//! `docs/metrics.md`, and the alarms with `docs/operations.md`.

mod alerts;
mod dashboard;
mod panels;
mod rules;

pub use alerts::{ALERTS, Alert, Example, Severity};
pub use panels::{PANELS, Panel, Query, Row};
pub use rules::rule_tests;

/// The path and the text of each file that is made from the tables.
#[must_use]
pub fn files() -> [(&'static str, String); 2] {
    [
        ("deploy/prometheus/alerts.yml", rules::alert_rules(ALERTS)),
        ("deploy/grafana/dashboards/crunch.json", dashboard::render(PANELS)),
    ]
}

/// How the generated files say how to change them.
const HOW_TO_CHANGE: &str = "Made by `cargo run -p crunch-tests --bin crunch-monitoring` from";
