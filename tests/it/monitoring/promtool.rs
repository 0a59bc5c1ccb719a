//! What promtool, the checker of Prometheus, says about the configuration, the alarms and the queries of the dashboard.

use std::path::Path;
use std::process::Command;

use crunch_tests::monitoring::{ALERTS, PANELS, rule_tests};

use crate::tree;

/// Runs it in a folder with these files; returns what it prints.
fn promtool(arguments: &[&str], folder: &Path) -> Result<String, String> {
    let output = Command::new("promtool").args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run promtool: {error}"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// A folder with these files.
fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn shipped(name: &str) -> String {
    tree::read(&format!("deploy/prometheus/{name}"))
}

#[test]
#[ignore = "needs promtool; script/test installs and runs it"]
fn promtool_accepts_the_configuration_and_the_alarms() {
    // It looks for the file of the key, which exists only in the container.
    let config = shipped("prometheus.yml").replace("/run/crunch/metrics-key", "key");
    let files =
        [("prometheus.yml", config), ("alerts.yml", shipped("alerts.yml")), ("key", String::new())];
    let folder = folder(&files);
    let printed = promtool(
        &["check", "config", "--lint=all", "--lint-fatal", "prometheus.yml"],
        folder.path(),
    );
    let expected = format!("SUCCESS: {} rules found", ALERTS.len());
    assert!(printed.as_ref().is_ok_and(|text| text.contains(&expected)), "{printed:?}");
}

#[test]
#[ignore = "needs promtool; script/test installs and runs it"]
fn every_alarm_fires_when_it_should_and_is_silent_otherwise() {
    let tests = rule_tests(ALERTS, "alerts.yml");
    let folder = folder(&[("alerts.yml", shipped("alerts.yml")), ("tests.yml", tests)]);
    let printed = promtool(&["test", "rules", "tests.yml"], folder.path());
    assert!(printed.is_ok(), "{}", printed.unwrap_err());
}

/// A test that cannot fail is none: without its condition, or its time, an alarm fails its tests.
#[test]
#[ignore = "needs promtool; script/test installs and runs it"]
fn tests_of_alarms_notice_a_changed_rule() {
    for (from, to) in [
        ("crunch_redis_up == 0", "crunch_redis_up == 2"),
        ("> 0.65", "> 0.60"),
        ("for: 1h", "for: 40m"),
        (" unless on (queue) max by (queue) (crunch_queue_paused) == 1", ""),
    ] {
        let rules = shipped("alerts.yml");
        assert_eq!(rules.matches(from).count(), 1, "{from}");
        let rules = rules.replace(from, to);
        let tests = rule_tests(ALERTS, "alerts.yml");
        let folder = folder(&[("alerts.yml", rules), ("tests.yml", tests)]);
        assert!(promtool(&["test", "rules", "tests.yml"], folder.path()).is_err(), "{from}");
    }
}

#[test]
#[ignore = "needs promtool; script/test installs and runs it"]
fn promtool_accepts_the_queries_of_the_dashboard() {
    let queries = PANELS.iter().flat_map(|row| row.panels).flat_map(|panel| panel.queries);
    let queries: Vec<_> = queries
        .map(|query| query.text.replace("$__rate_interval", "1m").replace("$queue", ".*"))
        .collect();
    // As recording rules, each with a name of its own.
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, query) in queries.iter().enumerate() {
        let query = serde_json::Value::from(query.as_str());
        rules += &format!("      - {{record: \"panel:{number}\", expr: {query}}}\n");
    }
    let folder = folder(&[("rules.yml", rules)]);
    let printed = promtool(&["check", "rules", "rules.yml"], folder.path());
    let expected = format!("SUCCESS: {} rules found", queries.len());
    assert!(printed.as_ref().is_ok_and(|text| text.contains(&expected)), "{printed:?}");
}
