//! Queries name metrics that `docs/metrics.md` lists, with the labels that it lists for them; `metrics::` compares that
//! table with what processes export.

use std::collections::{BTreeMap, BTreeSet};

use crunch_tests::monitoring::{ALERTS, PANELS};

use crate::tree;

/// What Prometheus adds to every series.
const OF_TARGETS: [&str; 2] = ["instance", "job"];

/// A row of the table of metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metric {
    pub(crate) labels: BTreeSet<String>,
    pub(crate) is_histogram: bool,
}

/// The texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The metrics in the table of `docs/metrics.md`, by name.
pub(crate) fn table() -> BTreeMap<String, Metric> {
    let text = tree::read("docs/metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `crunch_"));
    let metrics = rows.flat_map(|row| {
        let cells: Vec<_> = row.split('|').collect();
        let labels = quoted(cells[2]).collect();
        let metric = Metric { labels, is_histogram: cells[3].contains("histogram") };
        quoted(cells[1]).map(move |name| (name, metric.clone()))
    });
    metrics.collect()
}

/// A query without the texts in quotes, which are values of labels.
fn without_values(query: &str) -> String {
    query.split('"').step_by(2).collect()
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

/// The metrics of a query, each with the labels that it selects by.
fn selectors(query: &str) -> Vec<(String, Vec<String>)> {
    let query = without_values(query);
    let starts = query.match_indices("crunch_").map(|(at, _)| at);
    let selectors = starts.map(|at| {
        let rest = &query[at..];
        let end = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
        let labels = rest[end..].strip_prefix('{').and_then(|rest| rest.split('}').next());
        let names = labels
            .unwrap_or_default()
            .split(',')
            .map(|label| label.trim_end_matches(['=', '!', '~']).trim().to_owned());
        (rest[..end].to_owned(), names.filter(|name| !name.is_empty()).collect())
    });
    selectors.collect()
}

/// The labels in parentheses behind `by`, `on` and the like.
fn grouped(query: &str) -> Vec<String> {
    let query = without_values(query);
    let lists = ["by (", "on (", "without (", "ignoring ("].map(|word| {
        let lists =
            query.split(word).skip(1).map(|rest| rest.split(')').next().unwrap_or_default());
        lists
            .flat_map(|list| list.split(',').map(|name| name.trim().to_owned()))
            .collect::<Vec<_>>()
    });
    lists.concat()
}

/// The labels that a text contains in a query's results: `{{queue}}` in a legend, `{{ $labels.queue }}` in a summary.
fn shown(text: &str) -> Vec<String> {
    let parts = text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    let names = parts.map(|part| part.trim().trim_start_matches("$labels.").to_owned());
    names.filter(|name| !name.starts_with("$value")).collect()
}

/// What is wrong with a query, and with a text about its results.
fn problems(table: &BTreeMap<String, Metric>, query: &str, text: &str) -> Vec<String> {
    let (mut problems, mut common) = (Vec::new(), None::<BTreeSet<String>>);
    for (name, labels) in selectors(query) {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let histogram = base.and_then(|base| table.get(base)).filter(|metric| metric.is_histogram);
        let plain = table.get(&name).filter(|metric| !metric.is_histogram);
        let Some(metric) = histogram.or(plain) else {
            problems.push(format!("no metric is called {name}"));
            continue;
        };
        let mut known = metric.labels.clone();
        known.extend(OF_TARGETS.map(str::to_owned));
        known.extend(name.ends_with("_bucket").then(|| "le".to_owned()));
        let unknown = labels.iter().filter(|label| !known.contains(*label));
        problems.extend(unknown.map(|label| format!("{name} has no label {label}")));
        common = Some(common.map_or(known.clone(), |common| &common & &known));
    }
    let Some(common) = common else { return vec!["it names no metric".to_owned()] };
    let grouped = grouped(query);
    let unknown = grouped.iter().filter(|label| !common.contains(*label));
    problems.extend(unknown.map(|label| format!("not all metrics have the label {label}")));
    let is_result = |label: &String| match &grouped[..] {
        [] => common.contains(label),
        _ => grouped.contains(label),
    };
    let absent = shown(text).into_iter().filter(|label| !is_result(label));
    problems.extend(absent.map(|label| format!("the result has no label {label}")));
    problems
}

#[test]
fn queries_name_metrics_and_labels_that_exist() {
    let table = table();
    assert!(table.len() > 25, "only {:?}", table.keys());
    let alarms = ALERTS.iter().map(|alert| (alert.name, alert.query, alert.summary));
    let panels = PANELS.iter().flat_map(|row| row.panels).flat_map(|panel| {
        panel.queries.iter().map(|query| (panel.title, query.text, query.legend))
    });
    let found: Vec<_> = alarms
        .chain(panels)
        .flat_map(|(of, query, text)| {
            problems(&table, query, text).into_iter().map(move |it| format!("{of}: {it}"))
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn examples_of_alarms_have_series_that_exist() {
    let table = table();
    for alert in ALERTS {
        for (series, _) in alert.fires.series.iter().chain(alert.is_silent.series) {
            let found = problems(&table, series, "");
            assert!(found.is_empty(), "{}: {series}: {found:?}", alert.name);
        }
    }
}

#[test]
fn wrong_queries_are_noticed() {
    let table = table();
    let is_wrong = |query: &str, text: &str| !problems(&table, query, text).is_empty();
    assert!(!is_wrong("max by (queue) (crunch_queue_paused{queue=~\"crunch_x\"})", "{{queue}}"));
    assert!(!is_wrong("rate(crunch_job_run_seconds_bucket{le=\"1\"}[5m])", "{{task}}"));
    assert!(is_wrong("crunch_queue_depth", ""));
    assert!(is_wrong("up", ""));
    assert!(is_wrong("crunch_queue_paused_count", ""));
    assert!(is_wrong("crunch_job_run_seconds", ""));
    assert!(is_wrong("crunch_queue_paused{task=\"t\"}", ""));
    assert!(is_wrong("max by (task) (crunch_queue_paused)", ""));
    assert!(is_wrong("max by (queue) (crunch_queue_jobs)", "{{state}}"));
    assert!(is_wrong("crunch_redis_up == 0", "{{ $labels.node }} is away"));
}
