//! Charts of data that charts are drawn wrongly of.

use std::time::Duration;

use crunch_common::time::Timestamp;

use super::{Histogram, MAX_POINTS, Series, TimeChart, Tone, Unit, sparkline};

/// 2027-01-15 07:58 UTC.
const START: u64 = 1_800_000_000_000 - 120_000;

fn chart(series: &[(&str, Tone, &[Option<f64>])]) -> TimeChart {
    let series = series.iter().map(|(name, tone, values)| Series {
        name: (*name).to_owned(),
        tone: *tone,
        values: values.to_vec(),
    });
    TimeChart {
        id: "jobs",
        title: "Jobs by minute".to_owned(),
        unit: Unit::Count,
        start: Timestamp::from_unix_ms(START),
        step: Duration::from_secs(60),
        series: series.collect(),
    }
}

fn lines(values: &[Option<f64>]) -> String {
    chart(&[("queued", Tone::Busy, values)]).lines().unwrap()
}

/// The paths of lines, without the rest.
fn paths(html: &str) -> Vec<&str> {
    let after = html.split("class=\"line ").skip(1);
    after.filter_map(|it| it.split(" d=\"").nth(1)?.split('"').next()).collect()
}

#[test]
fn lines_with_a_gap() {
    let done = [Some(0.0), Some(12.0), None, Some(40.0), None, Some(30.0), Some(35.0)];
    let failed = [Some(1.0), None, None, Some(3.0), Some(2.0), Some(1.0), Some(0.0)];
    let chart = chart(&[("done", Tone::Good, &done), ("failed", Tone::Bad, &failed)]);
    insta::assert_snapshot!(chart.lines().unwrap());
}

#[test]
fn stacked_areas() {
    let one = [Some(1.0), Some(2.0), None, Some(1.0)];
    let other = [Some(1.0), None, None, Some(3.0)];
    let chart = chart(&[("one", Tone::Busy, &one), ("other", Tone::Warn, &other)]);
    insta::assert_snapshot!(chart.stacked().unwrap());
}

#[test]
fn histograms() {
    let ranges = [("to 10 ms", 3), ("to 100 ms", 40), ("to 1 s", 12), ("over 1 s", 0)];
    let histogram = Histogram {
        id: "durations",
        title: "Durations".to_owned(),
        counted: "jobs".to_owned(),
        tone: Tone::Busy,
        ranges: ranges.map(|(range, count)| (range.to_owned(), count)).to_vec(),
    };
    insta::assert_snapshot!(histogram.bars().unwrap());
    let empty = Histogram { ranges: Vec::new(), ..histogram.clone() }.bars().unwrap();
    assert!(empty.contains("no data") && empty.contains("<desc id=\"durations-summary\">No data."));
    let huge = vec![("all".to_owned(), u64::MAX), ("none".to_owned(), 0)];
    let huge = Histogram { ranges: huge, ..histogram }.bars().unwrap();
    assert!(huge.contains("18446744073709551615") && !huge.contains("NaN"));
}

#[test]
fn sparklines() {
    let draw = |values: &[Option<f64>]| sparkline("Depth", Unit::Count, Tone::Busy, values);
    insta::assert_snapshot!(draw(&[Some(1.0), Some(3.0), None, Some(2.0)]).unwrap());
    insta::assert_snapshot!(draw(&[]).unwrap());
    assert_eq!(paths(&draw(&[Some(0.0), Some(0.0)]).unwrap()), ["M250,1000L750,1000"]);
}

#[test]
fn no_data_is_said_in_the_chart() {
    for values in [&[][..], &[None, None], &[Some(f64::NAN), Some(f64::INFINITY)]] {
        let html = lines(values);
        assert!(html.contains(">no data</text>") && html.contains(">No data.</desc>"));
        assert!(!html.contains("<table>") && paths(&html).is_empty());
    }
    assert!(chart(&[]).stacked().unwrap().contains(">no data</text>"));
}

#[test]
fn one_point_is_a_dot_in_the_middle() {
    for values in [&[Some(3.0)][..], &[None, Some(1.0), None]] {
        let html = lines(values);
        assert!(html.contains("class=\"line dots busy\"") && paths(&html) == ["M500,0h0"]);
    }
}

#[test]
fn zeros_are_a_line_at_the_bottom() {
    assert_eq!(paths(&lines(&[Some(0.0), Some(0.0)])), ["M250,1000L750,1000"]);
    assert!(lines(&[Some(0.0)]).contains(">1</text>"));
}

#[test]
fn huge_and_negative_values_stay_in_the_picture() {
    for values in [[Some(f64::MAX), Some(1.0)], [Some(-5.0), Some(1e308)]] {
        let html =
            chart(&[("a", Tone::Busy, &values), ("b", Tone::Bad, &values)]).stacked().unwrap();
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        let numbers = paths(&html).join("L").replace(['M', 'h'], "");
        let mut numbers = numbers.split(['L', ',']).map(|it| it.parse::<f64>().unwrap());
        assert!(numbers.all(|it| (0.0..=1000.0).contains(&it)), "{html}");
    }
}

#[test]
fn of_many_points_the_latest_are_drawn() {
    let many: Vec<_> = (0..1000).map(|at| Some(f64::from(at))).collect();
    let html = lines(&many);
    assert_eq!(html.matches("class=\"interval\"").count(), MAX_POINTS);
    assert!(html.contains("last 999.</desc>"));
    assert!(html.len() < 100_000, "{}", html.len());
}

#[test]
fn names_are_texts_and_nothing_has_a_style() {
    let mut chart = chart(&[("<script>", Tone::Idle, &[Some(1.0)])]);
    chart.title = "\"><script>alert(1)</script>".to_owned();
    let html = chart.lines().unwrap() + &chart.stacked().unwrap();
    assert!(!html.contains("<script") && !html.contains("style=") && !html.contains(" on"));
}
