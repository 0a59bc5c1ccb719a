//! One invocation of this program: its runs, the control of each, and the metrics.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::control::{Control, ControlServer};
use crate::metrics::{Metric, Metrics, Samples, Unit};

/// Options for runs and output.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of runs; the medians are reported.
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Prints JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Writes the ratios to a file, for `--check` to compare with.
    #[arg(long, global = true, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Compares the ratios with those of a file, and fails if one is worse by more than its
    /// tolerance: a tenth for counts, a quarter for CPU, two fifths for times and rates.
    #[arg(long, global = true, value_name = "FILE")]
    check: Option<PathBuf>,
}

/// Collects metrics, each with the control of its run.
pub(crate) struct Session {
    server: ControlServer,
    control: Control,
    metrics: Metrics,
}

impl Session {
    pub(crate) fn start() -> Self {
        let server = ControlServer::start();
        let control = server.measure();
        Self { server, control, metrics: Metrics::default() }
    }

    /// Measures the control again: call this before each longer measurement.
    pub(crate) fn refresh_control(&mut self) {
        self.control = self.server.measure();
        let Control { pushes, round_trips, push_cpu } = self.control;
        self.record("control: LPUSH, pipelined", pushes, Unit::PerSecond);
        self.record("control: LPUSH, one by one", round_trips, Unit::Sequential);
        self.record("control: CPU of Redis", push_cpu, Unit::CpuSeconds);
    }

    pub(crate) fn record(&mut self, name: &str, value: f64, unit: Unit) {
        self.metrics.record(name, value, unit, &self.control);
    }

    /// Records the median and the 99th percentile.
    pub(crate) fn record_quantiles(&mut self, name: &str, samples: &Samples) {
        for (quantile, share) in [("p50", 0.5), ("p99", 0.99)] {
            self.record(&format!("{name}, {quantile}"), samples.ms(share), Unit::Milliseconds);
        }
    }

    /// Prints all metrics, stores and compares the ratios. Returns whether none got worse.
    pub(crate) fn finish(self, options: &Options) -> bool {
        if options.json {
            println!("{:#}", self.json());
        } else {
            self.print();
        }
        if let Some(path) = &options.store {
            self.store(path);
        }
        options.check.as_deref().is_none_or(|path| self.check(path))
    }

    fn json(&self) -> Value {
        let metric = |it: &Metric| json!({ "name": it.name, "value": it.value(), "unit": it.unit.as_str(), "ratio": it.ratio() });
        json!({ "figures": self.metrics.iter().map(metric).collect::<Vec<_>>() })
    }

    fn print(&self) {
        println!("{:<56} {:>12} {:<12} {:>10}", "", "median", "", "ratio");
        for metric in self.metrics.iter() {
            let (value, ratio) = (significant(metric.value()), significant(metric.ratio()));
            println!("{:<56} {value:>12} {:<12} {ratio:>10}", metric.name, metric.unit.as_str());
        }
    }

    /// Adds the ratios to those of the file.
    fn store(&self, path: &Path) {
        let mut ratios = read_ratios(path).unwrap_or_default();
        ratios.extend(self.compared().map(|metric| (metric.name.clone(), metric.ratio())));
        let text = serde_json::to_string_pretty(&ratios).unwrap();
        fs::write(path, text + "\n").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn check(&self, path: &Path) -> bool {
        let stored =
            read_ratios(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut passed = true;
        for metric in self.compared() {
            let Some(&before) = stored.get(&metric.name) else { continue };
            let worse = worsening(metric.unit, before, metric.ratio());
            if worse > tolerance(metric.unit) {
                passed = false;
                let (was, is) = (significant(before), significant(metric.ratio()));
                println!("worse by {:.0} %: {}: {was} → {is}", worse * 100.0, metric.name);
            }
        }
        passed
    }

    fn compared(&self) -> impl Iterator<Item = &Metric> {
        self.metrics.iter().filter(|metric| !metric.name.starts_with("control: "))
    }
}

fn read_ratios(path: &Path) -> anyhow::Result<BTreeMap<String, f64>> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// By how much a ratio is worse than before, as a fraction; negative if it is better.
fn worsening(unit: Unit, before: f64, now: f64) -> f64 {
    if unit.more_is_better() { before / now - 1.0 } else { now / before - 1.0 }
}

/// How much results of the same program may differ: observed over many runs on a small virtual machine.
const fn tolerance(unit: Unit) -> f64 {
    match unit {
        Unit::Counted(_) => 0.1,
        Unit::CpuSeconds => 0.25,
        Unit::PerSecond | Unit::Sequential | Unit::Milliseconds | Unit::Times => 0.4,
    }
}

/// Four significant digits.
fn significant(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { 3 - value.abs().log10().floor() as i32 };
    format!("{value:.*}", usize::try_from(digits).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_four_digits() {
        let shown = [0.0, 0.012_344, 1.5, 12_345.6].map(significant);
        assert_eq!(shown, ["0", "0.01234", "1.500", "12346"]);
    }

    #[test]
    fn a_lower_rate_and_a_higher_cost_are_worse() {
        assert!(worsening(Unit::PerSecond, 1.0, 0.5) > 0.9);
        assert!(worsening(Unit::CpuSeconds, 1.0, 2.0) > 0.9);
        assert!(worsening(Unit::Times, 1.0, 2.0) < 0.0);
        assert!(worsening(Unit::Milliseconds, 1.0, 0.5) < 0.0);
    }
}
