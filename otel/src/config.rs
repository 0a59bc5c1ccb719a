//! What is exported and where to: the standard variables of OpenTelemetry, or flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use crunch_common::config::milliseconds;
use ureq::http::Uri;

use crate::pairs::Pairs;

/// The export of spans and metrics by OTLP. Without an endpoint there is none.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "OpenTelemetry")]
pub struct OtelConfig {
    /// The collector to which spans and metrics are sent by OTLP over HTTP, such as http://127.0.0.1:4318. Default:
    /// nothing is exported.
    #[arg(long = "otlp-endpoint", env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL",
        hide_env_values = true, value_parser = endpoint)]
    pub endpoint: Option<String>,

    /// Headers of the requests to the collector: key=value, separated by commas.
    #[arg(long = "otlp-headers", env = "OTEL_EXPORTER_OTLP_HEADERS", value_name = "PAIRS",
        hide_env_values = true, value_parser = headers)]
    pub headers: Option<Pairs>,

    /// Certificates of the authorities that are trusted, instead, to issue that of the collector.
    #[arg(long = "otlp-certificate", env = "OTEL_EXPORTER_OTLP_CERTIFICATE", value_name = "PATH")]
    pub certificate: Option<PathBuf>,

    /// How requests to the collector are compressed.
    #[arg(
        long = "otlp-compression",
        env = "OTEL_EXPORTER_OTLP_COMPRESSION",
        value_name = "HOW",
        default_value = "none"
    )]
    pub compression: Compression,

    /// The protocol that the collector is expected to use. There is one.
    #[arg(
        long = "otlp-protocol",
        env = "OTEL_EXPORTER_OTLP_PROTOCOL",
        value_name = "PROTOCOL",
        default_value = "http/protobuf"
    )]
    pub protocol: Protocol,

    /// How long an export may take, with its retries, in milliseconds, 1 to 600 000.
    #[arg(long = "otlp-timeout-ms", env = "OTEL_EXPORTER_OTLP_TIMEOUT", value_name = "MS",
        default_value = "10000", value_parser = milliseconds(1..=600_000))]
    pub timeout: Duration,

    /// The name of this service. Default: crunch-api or crunch-worker.
    #[arg(long = "otel-service-name", env = "OTEL_SERVICE_NAME", value_name = "NAME")]
    pub service_name: Option<String>,

    /// Further attributes of this process: key=value, separated by commas.
    #[arg(long = "otel-resource-attributes", env = "OTEL_RESOURCE_ATTRIBUTES", value_name = "PAIRS",
        value_parser = pairs)]
    pub resource_attributes: Option<Pairs>,

    /// Whether spans are exported.
    #[arg(
        long = "otel-traces-exporter",
        env = "OTEL_TRACES_EXPORTER",
        value_name = "EXPORTER",
        default_value = "otlp"
    )]
    pub traces: Exporter,

    /// Whether metrics are exported.
    #[arg(
        long = "otel-metrics-exporter",
        env = "OTEL_METRICS_EXPORTER",
        value_name = "EXPORTER",
        default_value = "otlp"
    )]
    pub metrics: Exporter,

    /// Which submissions are traced, and their jobs with them. Workers follow the API.
    #[arg(
        long = "otel-traces-sampler",
        env = "OTEL_TRACES_SAMPLER",
        value_name = "SAMPLER",
        default_value = "parentbased_always_on"
    )]
    pub sampler: SamplerName,

    /// The share of traces for the samplers with a ratio, 0 to 1. Default: 1.
    #[arg(long = "otel-traces-sampler-arg", env = "OTEL_TRACES_SAMPLER_ARG", value_name = "RATIO",
        value_parser = ratio)]
    pub sampler_ratio: Option<f64>,

    /// How long spans are collected before they are exported, in milliseconds, 1 to 600 000.
    #[arg(long = "otel-bsp-schedule-delay-ms", env = "OTEL_BSP_SCHEDULE_DELAY", value_name = "MS",
        default_value = "5000", value_parser = milliseconds(1..=600_000))]
    pub span_delay: Duration,

    /// How often metrics are exported, in milliseconds, 1 to 86 400 000.
    #[arg(long = "otel-metric-export-interval-ms", env = "OTEL_METRIC_EXPORT_INTERVAL", value_name = "MS",
        default_value = "60000", value_parser = milliseconds(1..=86_400_000))]
    pub metric_interval: Duration,

    /// Whether nothing is exported although there is an endpoint: true or false.
    #[arg(long = "otel-sdk-disabled", env = "OTEL_SDK_DISABLED", value_name = "BOOL",
        default_value = "false", value_parser = boolean)]
    pub disabled: bool,
}

/// How requests are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Not at all.
    None,
    /// By gzip.
    Gzip,
}

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Protobuf over HTTP/1.1.
    #[value(name = "http/protobuf")]
    HttpProtobuf,
}

/// Whether spans or metrics are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Exporter {
    /// They are, by OTLP.
    Otlp,
    /// They are not.
    None,
}

/// Which traces are exported. The samplers based on the parent follow the flag of a submission's `traceparent`, and
/// decide by themselves where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SamplerName {
    /// All.
    #[value(name = "always_on")]
    AlwaysOn,
    /// None.
    #[value(name = "always_off")]
    AlwaysOff,
    /// A share of them, by their id.
    #[value(name = "traceidratio")]
    Ratio,
    /// All, or by the parent.
    #[value(name = "parentbased_always_on")]
    ParentBasedAlwaysOn,
    /// None, or by the parent.
    #[value(name = "parentbased_always_off")]
    ParentBasedAlwaysOff,
    /// A share of them, or by the parent.
    #[value(name = "parentbased_traceidratio")]
    ParentBasedRatio,
}

/// Without user and password: they would be logged, and headers can have them.
fn endpoint(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    let is_endpoint = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.query().is_none()
    };
    match url.parse().is_ok_and(|uri| is_endpoint(&uri)) {
        true => Ok(url.to_owned()),
        false => Err("expected an address such as http://127.0.0.1:4318, without user, password and query: headers have credentials".to_owned()),
    }
}

fn headers(text: &str) -> Result<Pairs, String> {
    use ureq::http::{HeaderName, HeaderValue};
    let pairs = pairs(text)?;
    let is_header = |(name, value): (&str, &str)| {
        name.parse::<HeaderName>().is_ok() && value.parse::<HeaderValue>().is_ok()
    };
    if !pairs.iter().all(is_header) {
        return Err(
            "expected names and values of headers: key=value, separated by commas".to_owned()
        );
    }
    Ok(pairs)
}

fn pairs(text: &str) -> Result<Pairs, String> {
    text.parse().map_err(str::to_owned)
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn boolean(text: &str) -> Result<bool, String> {
    text.to_ascii_lowercase().parse().map_err(|_| "expected true or false".to_owned())
}
