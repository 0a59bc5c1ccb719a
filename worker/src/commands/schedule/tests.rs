//! Valid and invalid schedules, and the problems that are reported.

use crate::commands::{Commands, Rest};
use crate::registry::Registry;

use super::*;

fn read(text: &str) -> Result<Rest, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.toml");
    std::fs::write(&path, text).unwrap();
    let joined = Commands::read(&path, 1024, 4).unwrap().join(&mut Registry::default());
    let here = format!("{}:", path.display());
    joined.map_err(|error| error.to_string().lines().map(|line| line.replace(&here, "")).collect())
}

/// The problem of a schedule with this line in it, as line 4.
fn problem(line: &str) -> String {
    let problems = read(&format!("[[schedule]]\nname = 'a'\ntask = 't'\n{line}\n")).unwrap_err();
    assert_eq!(problems.len(), 1, "{line}: {problems:?}");
    problems[0].strip_prefix("4: ").unwrap_or_else(|| panic!("{problems:?}")).to_owned()
}

#[test]
fn every_key_finds_its_place() {
    let text = r#"
        [[schedule]]
        name = "nightly"
        task = "report"
        cron = "30 2 * * *"
        time_zone = "Europe/Berlin"
        jitter = "5m"
        start_at = 2026-01-01T00:00:00+01:00
        end_at = "2027-01-01T00:00:00Z"
        missed = "all"
        missed_at_most = 7
        missed_within = "2h"
        overlap = "buffer_one"
        payload = { limit = 1000 }

        [schedule.job]
        queue = "slow"
        group = "reports"
        metadata = { kind = "report" }

        [[schedule]]
        name = "often"
        task = "report"
        every = "10m"
    "#;
    let schedules = read(text).unwrap().schedules;
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let nightly = FileSchedule {
        name: "nightly".parse().unwrap(),
        task: "report".parse().unwrap(),
        queue: Some("slow".parse().unwrap()),
        group: Some("reports".parse().unwrap()),
        job: r#"{"group":"reports","metadata":{"kind":"report"},"queue":"slow"}"#.to_owned(),
        payload: r#"{"limit":1000}"#.to_owned(),
        timing: Timing {
            rule: Rule::Cron("30 2 * * *".parse().unwrap()),
            time_zone: "Europe/Berlin".parse().unwrap(),
            jitter: Duration::from_secs(300),
            start_at: time("2025-12-31T23:00:00Z"),
            end_at: time("2027-01-01T00:00:00Z"),
        },
        missed: Missed { policy: MissedPolicy::All, at_most: 7, within: Duration::from_secs(7200) },
        overlap: Overlap::BufferOne,
    };
    let often = FileSchedule {
        name: "often".parse().unwrap(),
        task: "report".parse().unwrap(),
        queue: None,
        group: None,
        job: "{}".to_owned(),
        payload: "null".to_owned(),
        timing: Timing::of(Rule::Every(Duration::from_secs(600))),
        missed: Missed::default(),
        overlap: Overlap::Skip,
    };
    assert_eq!(schedules, [nightly, often]);
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let text = "\
[[schedule]]
task = 'crunch.webhooks'
[[schedule]]
name = 'a'
task = 't'
every = '1h'
[[schedule]]
name = 'a'
task = 't'
every = '2h'
tz = 'UTC'
[[schedule]]
name = 'a'
task = 't'
every = '2h'
";
    let found = read(text).unwrap_err();
    let expected = [
        "1: name is missing",
        "1: cron or every is missing",
        "2: task: \"crunch.webhooks\" is reserved for Crunch",
        "11: unknown key \"tz\"; known keys: cron, end_at, every, jitter, job, missed, missed_at_most, missed_within, name, overlap, payload, start_at, task, time_zone",
        "12: there are two schedules \"a\"",
    ];
    assert_eq!(found, expected);
    let single = read("[schedule]\nname = 'a'\n").unwrap_err();
    assert_eq!(single, ["1: schedule: write [[schedule]], with double brackets"]);
}

#[test]
fn values_that_cannot_be_are_refused() {
    for (line, expected) in [
        ("every = '999ms'", "every: expected at least 1s"),
        ("every = 10", "every: expected a whole number and a unit"),
        ("cron = '0 25 * * *'", "cron: \"0 25 * * *\": the hour \"25\" is wrong: expected 0 to 23"),
        ("cron = '0 0 31 2 *'", "cron: no such date comes"),
    ] {
        let problem = problem(line);
        assert!(problem.starts_with(expected), "{line}: {problem}");
    }
    for (line, expected) in [
        ("cron = '@daily'", "every: only one of cron and every may be given"),
        ("time_zone = 'UTC'", "time_zone: an interval has no time zone"),
        (
            "time_zone = 'Europe/Berln'",
            "time_zone: \"Europe/Berln\": expected the name of a time zone",
        ),
        ("jitter = '25h'", "jitter: expected at most a day (24h)"),
        ("start_at = 2026-01-01", "start_at: expected an RFC 3339 time with an offset"),
        ("start_at = 7", "start_at: expected text in quotes, found 7"),
        ("missed = 'never'", "missed: \"never\": expected one of skip, once, all"),
        ("missed_at_most = 1001", "missed_at_most: expected a whole number from 1 to 1000"),
        ("missed_within = '0s'", "missed_within: expected at least 1s"),
        ("overlap = 'queue'", "overlap: \"queue\": expected one of skip, buffer_one"),
        ("payload = nan", "payload: JSON has no such number"),
        ("job = 'x'", "job: expected a table"),
        ("job = { queue = 'Q' }", "job: queue: \"Q\": must be 1 to 64 characters"),
        ("job = { run_at = 2026-01-01 }", "job: run_at: a schedule decides when its jobs start"),
    ] {
        let text = format!("[[schedule]]\nname = 'a'\ntask = 't'\nevery = '1m'\n{line}\n");
        let found = read(&text).unwrap_err().join("\n");
        assert!(found.contains(expected), "{line}: {found}");
    }
    let payload = format!("every = '1m'\npayload = '{}'", "x".repeat(MAX_SCHEDULE_PAYLOAD));
    let large = read(&format!("[[schedule]]\nname = 'a'\ntask = 't'\n{payload}")).unwrap_err();
    assert_eq!(large, ["5: payload: expected at most 65536 bytes of JSON"]);
}
