//! Random schemas and values: every declaration and every validation must finish in time.

#[path = "../../../common/src/schema/tests/keywords.rs"]
mod keywords;

use std::time::{Duration, Instant};

use crunch_common::schema::{Schema, Validator};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use super::draw::Draw;
use super::{Finding, Limits, MAX_FINDINGS, Plan, Report};

/// No declaration, and no validation of a value of up to 64 KiB, takes longer.
const CHECK_LIMIT: Duration = Duration::from_millis(50);
/// The number of values checked against one schema.
const VALUES: usize = 4;

/// Keywords that refer to places in other ways: they are refused, or have no effect alone.
const OTHERS: &[&str] = &["$defs", "$dynamicRef", "$anchor", "$id"];

pub(super) fn run(plan: Plan, limits: Limits) -> Report {
    let mut draw = Draw::new(Pcg64Mcg::seed_from_u64(plan.seed ^ 0x5c4e3a));
    let mut report = Report::default();
    while limits.allow(report.schemas) && report.findings.len() < MAX_FINDINGS {
        let text = schema(&mut draw);
        let start = Instant::now();
        let parsed = text.parse::<Schema>();
        report.slowest_check = report.slowest_check.max(start.elapsed());
        let validator = parsed.and_then(|schema| schema.compile()).ok();
        for _ in 0..VALUES {
            let value = if draw.once_in(2) { draw.tree() } else { draw.json(5) };
            // Only valid JSON is checked against a schema.
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&value).is_ok();
            if let Some(validator) = validator.as_ref().filter(|_| is_json) {
                let took = shortest_check(validator, &value);
                report.slowest_check = report.slowest_check.max(took);
                if plan.timed && took > CHECK_LIMIT {
                    let input = format!("seed {}, schema {}", plan.seed, report.schemas);
                    let what = format!("{took:?} for {value}\nagainst {text}");
                    report.findings.push(Finding { input, what });
                }
            }
        }
        report.schemas += 1;
    }
    report
}

/// Other work of the machine makes a check longer, never shorter: one that is too long is repeated up to twice.
fn shortest_check(validator: &Validator, value: &str) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        let _either_result = validator.check(value.as_bytes());
        shortest = shortest.min(start.elapsed());
        if shortest <= CHECK_LIMIT {
            break;
        }
    }
    shortest
}

fn schema(draw: &mut Draw) -> String {
    let inner = subschema(draw, 4);
    let definitions: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| format!("\"{name}\":{}", subschema(draw, 3)))
        .collect();
    let inner = inner.strip_prefix('{').and_then(|it| it.strip_suffix('}')).unwrap_or_default();
    let comma = if inner.is_empty() { "" } else { "," };
    let text = format!("{{\"$defs\":{{{}}}{comma}{inner}}}", definitions.join(","));
    if draw.once_in(10) {
        String::from_utf8_lossy(&draw.damaged(text.into_bytes())).into_owned()
    } else {
        text
    }
}

fn subschema(draw: &mut Draw, depth: usize) -> String {
    let members: Vec<_> = (0..1 + draw.below(3)).map(|_| member(draw, depth)).collect();
    format!("{{{}}}", members.join(","))
}

fn member(draw: &mut Draw, depth: usize) -> String {
    let keywords = if draw.once_in(9) { OTHERS } else { keywords::USABLE };
    let keyword = draw.one(keywords);
    let value = match keyword {
        "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
            let list: Vec<_> = (0..1 + draw.below(3)).map(|_| nested(draw, depth)).collect();
            format!("[{}]", list.join(","))
        }
        "properties" | "patternProperties" | "dependentSchemas" | "$defs" => {
            let name = if keyword == "patternProperties" {
                draw.one(&["^a", "(a+)+$", "."])
            } else {
                draw.name()
            };
            format!("{{\"{name}\":{},\"arg\":{}}}", nested(draw, depth), nested(draw, depth))
        }
        "$ref" | "$dynamicRef" => format!(
            "\"{}\"",
            draw.one(&[
                "#",
                "#/$defs/a",
                "#/$defs/b",
                "#/$defs/c",
                "#/$defs/d",
                "#/x",
                "http://x/"
            ])
        ),
        "type" => {
            draw.one(&["\"object\"", "\"array\"", "\"number\"", "[\"null\",\"string\"]"]).to_owned()
        }
        "uniqueItems" => "true".to_owned(),
        "pattern" => draw
            .one(&["\"^(a+)+$\"", "\"(?=a)\"", "\"\\\\p{L}{1,500}\"", "\"(a{1,100}){1,100}\""])
            .to_owned(),
        "enum" | "const" | "required" | "minimum" | "multipleOf" | "maxLength" | "minItems"
        | "maxProperties" | "format" | "$anchor" | "$id" | "minContains" | "dependentRequired" => {
            draw.json(2)
        }
        _ => nested(draw, depth),
    };
    format!("\"{keyword}\":{value}")
}

fn nested(draw: &mut Draw, depth: usize) -> String {
    match depth {
        0 => format!("{{\"$ref\":\"#/$defs/{}\"}}", draw.one(&["a", "b", "c", "d"])),
        _ if draw.once_in(6) => draw.one(&["true", "false"]).to_owned(),
        _ => subschema(draw, depth - 1),
    }
}
