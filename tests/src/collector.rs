//! An OpenTelemetry collector for tests: accepts spans and metrics by OTLP over HTTP, and keeps them.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span as RawSpan;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::wait::eventually;

/// A collector that accepts everything; stopped when this value is dropped.
#[derive(Debug)]
pub struct Collector {
    addr: SocketAddr,
    received: Arc<Mutex<Received>>,
    server: JoinHandle<()>,
}

/// Attributes by name, values as text.
pub type Attributes = BTreeMap<String, String>;

/// Everything a collector received.
#[derive(Debug, Default)]
struct Received {
    /// The heads of the requests, in lower case.
    heads: Vec<String>,
    spans: Vec<Span>,
    /// The last export of each process.
    metrics: BTreeMap<String, Vec<Point>>,
}

/// A span as it was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// `send echo`
    pub name: String,
    /// What it is about.
    pub kind: SpanKind,
    /// Hexadecimal ids; `parent` is empty for a root.
    pub trace: String,
    /// See above.
    pub id: String,
    /// See above.
    pub parent: String,
    /// The header `tracestate`.
    pub state: String,
    /// Whether it failed.
    pub is_error: bool,
    /// Begin and end, nanoseconds since the Unix epoch.
    pub time: (u64, u64),
    /// Its attributes.
    pub attributes: Attributes,
    /// The attributes of its process.
    pub resource: Attributes,
    /// The conventions that its names are of.
    pub schema: String,
}

/// The value of a metric for one set of attributes: a sum, or the number of recorded values.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its name.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// The attributes.
    pub attributes: Attributes,
    /// The value.
    pub value: u64,
}

impl Collector {
    /// Opens a collector on a free port of this machine.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn open() -> Self {
        Self::open_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// The same at an address.
    ///
    /// # Panics
    /// If it is in use.
    pub async fn open_at(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let (addr, received) = (listener.local_addr().unwrap(), Arc::<Mutex<Received>>::default());
        let shared = received.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { addr, received, server }
    }

    /// Its address, for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// How many requests it got.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.received.lock().heads.len()
    }

    /// The head of the first request, in lower case.
    ///
    /// # Panics
    /// If there was none.
    #[must_use]
    pub fn first_head(&self) -> String {
        self.received.lock().heads[0].clone()
    }

    /// All spans, in the order of their begins.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self.received.lock().spans.clone();
        spans.sort_by_key(|span| span.time);
        spans
    }

    /// Waits until there are this many spans; returns all of them, in the order of their begins.
    pub async fn wait_for_spans(&self, count: usize) -> Vec<Span> {
        let what = format!("{count} spans are exported");
        eventually(&what, async || Some(self.spans()).filter(|spans| spans.len() >= count)).await
    }

    /// Waits until a metric has values with these attributes that add up to this number, over all processes.
    pub async fn wait_for_metric(&self, metric: &str, attributes: &[(&str, &str)], value: u64) {
        let what = format!("{metric} {attributes:?} is {value}");
        eventually(&what, async || (self.metric(metric, attributes) == value).then_some(())).await;
    }

    /// The sum of the values of a metric with these attributes.
    #[must_use]
    pub fn metric(&self, metric: &str, attributes: &[(&str, &str)]) -> u64 {
        let has = |point: &&Point| {
            let has = |(name, value): &(&str, &str)| {
                point.attributes.get(*name).is_some_and(|it| it == value)
            };
            point.metric == metric && attributes.iter().all(has)
        };
        self.points().iter().filter(has).map(|point| point.value).sum()
    }

    /// The last values that each process exported.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        self.received.lock().metrics.values().flatten().cloned().collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers the requests of a connection.
async fn serve(stream: TcpStream, received: Arc<Mutex<Received>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let header =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let length = header("content-length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        if header("content-encoding") == Some("gzip") {
            let zipped = std::mem::take(&mut body);
            GzDecoder::new(zipped.as_slice()).read_to_end(&mut body).unwrap();
        }
        received.lock().add(&head, &body);
        let response = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(response).await.is_err() {
            return;
        }
    }
}

impl Received {
    fn add(&mut self, head: &str, body: &[u8]) {
        self.heads.push(head.to_owned());
        if head.starts_with("post /v1/traces ") {
            self.add_spans(ExportTraceServiceRequest::decode(body).unwrap());
        } else {
            assert!(head.starts_with("post /v1/metrics "), "{head}");
            self.add_metrics(ExportMetricsServiceRequest::decode(body).unwrap());
        }
    }

    fn add_spans(&mut self, request: ExportTraceServiceRequest) {
        for process in request.resource_spans {
            let resource = read_attributes(&process.resource.unwrap().attributes);
            for scope in process.scope_spans {
                assert_eq!(scope.scope.unwrap().name, "crunch");
                let read = |span| read_span(span, &resource, &scope.schema_url);
                self.spans.extend(scope.spans.into_iter().map(read));
            }
        }
    }

    fn add_metrics(&mut self, request: ExportMetricsServiceRequest) {
        for process in request.resource_metrics {
            let resource = read_attributes(&process.resource.unwrap().attributes);
            let metrics = process.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            let points = metrics.flat_map(|metric| {
                let values = read_points(metric.data.unwrap());
                let point = move |(attributes, value)| Point {
                    metric: metric.name.clone(),
                    unit: metric.unit.clone(),
                    attributes,
                    value,
                };
                values.into_iter().map(point)
            });
            let points = points.collect();
            self.metrics.insert(resource["service.instance.id"].clone(), points);
        }
    }
}

fn read_span(span: RawSpan, resource: &Attributes, schema: &str) -> Span {
    Span {
        kind: span.kind(),
        is_error: span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error),
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        state: span.trace_state,
        time: (span.start_time_unix_nano, span.end_time_unix_nano),
        attributes: read_attributes(&span.attributes),
        resource: resource.clone(),
        schema: schema.to_owned(),
    }
}

fn read_points(data: Data) -> Vec<(Attributes, u64)> {
    match data {
        Data::Sum(sum) => {
            let value = |value| match value {
                Some(number_data_point::Value::AsInt(value)) => value.try_into().unwrap(),
                other => panic!("{other:?}"),
            };
            let points = sum.data_points.into_iter();
            points.map(|point| (read_attributes(&point.attributes), value(point.value))).collect()
        }
        Data::Histogram(histogram) => {
            let points = histogram.data_points.into_iter();
            points.map(|point| (read_attributes(&point.attributes), point.count)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn read_attributes(attributes: &[KeyValue]) -> Attributes {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let pair = |pair: &KeyValue| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref()).unwrap();
        (pair.key.clone(), text(value))
    };
    attributes.iter().map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
