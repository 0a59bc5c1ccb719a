//! The alarms as a file of rules for Prometheus, and as a file of tests for promtool.

use std::fmt::Write as _;

use super::HOW_TO_CHANGE;
use super::alerts::{Alert, Example};

/// A text in quotes: what JSON accepts, YAML accepts.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The part of a link that leads to a heading, as Forgejo, GitHub and GitLab make it.
fn anchor(heading: &str) -> String {
    let words = heading.to_lowercase().replace(' ', "-");
    words.chars().filter(|char| char.is_alphanumeric() || *char == '-').collect()
}

/// The rules of all alarms.
pub(super) fn alert_rules(alerts: &[Alert]) -> String {
    let mut text = format!(
        "# {HOW_TO_CHANGE} tests/src/monitoring/alerts.rs.\n#\n\
         # severity: critical, somebody must act at once; warning, on the same day. runbook: what to do.\n\
         groups:\n  - name: crunch\n    rules:\n"
    );
    for alert in alerts {
        let runbook = format!("docs/operations.md#{}", anchor(alert.section));
        let _ = write!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels: {{severity: {}}}\n        \
             annotations:\n          summary: {}\n          runbook: {}\n",
            alert.name,
            quoted(alert.query),
            alert.holds_for,
            alert.severity.as_str(),
            quoted(alert.summary),
            quoted(&runbook),
        );
    }
    text
}

/// Tests of all alarms for `promtool test rules`, about the rules in a file of this name.
#[must_use]
pub fn rule_tests(alerts: &[Alert], rules: &str) -> String {
    let mut text = format!("rule_files: [{}]\nevaluation_interval: 1m\ntests:\n", quoted(rules));
    for alert in alerts {
        write_test(&mut text, alert.name, "fires", &alert.fires, true);
        write_test(&mut text, alert.name, "is silent", &alert.is_silent, false);
    }
    text
}

fn write_test(text: &mut String, alert: &str, what: &str, example: &Example, fires: bool) {
    let name = quoted(&format!("{alert} {what}"));
    let _ = writeln!(text, "  - name: {name}\n    interval: 1m\n    input_series:");
    for (series, values) in example.series {
        let _ = writeln!(
            text,
            "      - series: {}\n        values: {}",
            quoted(series),
            quoted(values)
        );
    }
    let query = format!("count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}})");
    text.push_str("    promql_expr_test:\n");
    for (minute, fires) in [(example.before, false), (example.at, fires)] {
        let samples = if fires { "[{labels: '{}', value: 1}]" } else { "[]" };
        let _ = writeln!(
            text,
            "      - expr: {}\n        eval_time: {minute}m\n        exp_samples: {samples}",
            quoted(&query)
        );
    }
}
