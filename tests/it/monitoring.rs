//! The alarms for Prometheus and the dashboard for Grafana: they are what their tables say, query metrics that exist, and
//! each alarm has a section in the guide for operators.

mod promtool;
pub(crate) mod queries;

use std::collections::BTreeSet;

use crunch_tests::monitoring::{ALERTS, files};

use crate::tree;

#[test]
fn the_files_are_those_that_the_tables_make() {
    for (path, text) in files() {
        let command = "cargo run -p crunch-tests --bin crunch-monitoring";
        assert!(tree::read(path) == text, "{path} is out of date: {command}");
    }
}

/// The part of a page under a heading of the second level.
fn part(page: &str, heading: &str) -> String {
    let text = tree::read(page);
    let (_, rest) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap().to_owned()
}

#[test]
fn each_alarm_has_a_section_in_the_guide_and_each_section_an_alarm() {
    let guide = part("docs/operations.md", "Alarms");
    let sections: Vec<_> = guide.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let expected: Vec<_> = ALERTS.iter().map(|alert| alert.section).collect();
    assert_eq!(sections, expected, "the sections are in the order of the alarms");
    // The links of the rules lead to them.
    let rules = tree::read("deploy/prometheus/alerts.yml");
    for alert in ALERTS {
        let row = guide.lines().find(|line| line.contains(&format!("`{}`", alert.name)));
        let row = row.unwrap_or_else(|| panic!("the table does not list {}", alert.name));
        let (_, link) = row.split_once(&format!("[{}](", alert.section)).unwrap();
        let link = link.split(')').next().unwrap();
        let runbook = format!("runbook: \"docs/operations.md{link}\"");
        assert!(rules.contains(&runbook), "no rule has {runbook}");
        assert!(row.contains(alert.severity.as_str()), "the table has the severity: {row}");
    }
}

#[test]
fn each_section_of_the_guide_says_what_to_look_at_and_what_to_do() {
    let guide = part("docs/operations.md", "Alarms");
    for section in guide.split("\n### ").skip(1) {
        let title = section.lines().next().unwrap();
        for word in ["**It means**", "**Look**", "**Do**", "**Over**"] {
            assert!(section.contains(word), "{title} lacks {word}");
        }
    }
}

#[test]
fn names_of_alarms_are_unique() {
    let names: BTreeSet<_> = ALERTS.iter().map(|alert| alert.name).collect();
    assert_eq!(names.len(), ALERTS.len());
}
