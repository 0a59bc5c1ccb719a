//! The option `webhook`: `{"url": …, "events": […]}`, or `webhook.url=…&webhook.events=…,…` in a query.

use crunch_common::job::Status;
use serde_json::value::RawValue;

use super::given::{Given, Refusal, refused};
use crate::webhook::{InvalidTarget, Target, WebhookRequest, event};

/// The ends of a job, all of which are told unless some are named.
const ENDS: [Status; 3] = [Status::Succeeded, Status::Failed, Status::Canceled];

pub(super) fn read(value: Given<'_>) -> Result<WebhookRequest, Refusal> {
    let members =
        value.members().ok_or_else(|| refused("expected {\"url\": …, \"events\": […]}"))?;
    if let Some(name) = members.repeated() {
        return Err(refused("is given twice").at(&format!("/{name}")));
    }
    let (mut target, mut told) = (None, ENDS.to_vec());
    for (name, raw) in &members.all {
        match name.as_str() {
            "url" => target = Some(url(Given::Json(raw)).map_err(|refusal| refusal.at("/url"))?),
            "events" if Given::Json(raw).is_null() => {}
            "events" => told = events(raw)?,
            name => {
                return Err(refused("there is no such member here")
                    .at(&super::given::pointer_segment(name)));
            }
        }
    }
    let target = target.ok_or_else(|| refused("is missing").at("/url"))?;
    Ok(WebhookRequest { target, told })
}

/// The same of a query's pairs.
pub(super) fn read_query(pairs: &[(String, String)]) -> Result<WebhookRequest, Refusal> {
    let find = |wanted: &str| {
        pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    let target = find("webhook.url").ok_or_else(|| refused("webhook.url must stand beside it"))?;
    let target = url(Given::Text(target))?;
    let told = match find("webhook.events") {
        Some(list) => {
            each_once(list.split(',').map(|name| end(name.trim())).collect::<Option<_>>())
                .ok_or_else(unknown_event)?
        }
        None => ENDS.to_vec(),
    };
    Ok(WebhookRequest { target, told })
}

fn url(value: Given<'_>) -> Result<Target, Refusal> {
    let parsed = value.text().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| refused(InvalidTarget.to_string()))
}

fn events(raw: &RawValue) -> Result<Vec<Status>, Refusal> {
    let names: Vec<String> = serde_json::from_str(raw.get()).unwrap_or_default();
    let ends = each_once(names.iter().map(|name| end(name)).collect::<Option<_>>());
    ends.ok_or_else(|| unknown_event().at("/events"))
}

/// At least one, none twice.
fn each_once(ends: Option<Vec<Status>>) -> Option<Vec<Status>> {
    let ends = ends?;
    let given = |end: &Status| ends.contains(end);
    let once: Vec<_> = ENDS.into_iter().filter(given).collect();
    (!ends.is_empty() && once.len() == ends.len()).then_some(once)
}

fn end(name: &str) -> Option<Status> {
    ENDS.into_iter().find(|&status| event(status) == name)
}

fn unknown_event() -> Refusal {
    let names: Vec<_> = ENDS.into_iter().map(event).collect();
    refused(format!("expected some of {}, each once", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_json(json: &str) -> Result<WebhookRequest, Refusal> {
        read(Given::Json(&RawValue::from_string(json.to_owned()).unwrap()))
    }

    fn place(json: &str) -> String {
        match read_json(json) {
            Err(Refusal::Wrong { pointer, .. }) => pointer,
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn every_end_is_told_unless_some_are_named() {
        let all = read_json(r#"{"url":"https://example.com/a","events":null}"#).unwrap();
        assert_eq!((all.target.as_str(), &all.told[..]), ("https://example.com/a", &ENDS[..]));
        let some = read_json(r#"{"events":["job.failed"],"url":"https://example.com/"}"#).unwrap();
        assert_eq!(some.told, [Status::Failed]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (json, at) in [
            ("1", ""),
            ("\"https://example.com/\"", ""),
            ("{}", "/url"),
            (r#"{"url":null}"#, "/url"),
            (r#"{"url":"http://user@example.com/"}"#, "/url"),
            (r#"{"url":"https://a.b/","url":"https://a.b/"}"#, "/url"),
            (r#"{"url":"https://a.b/","events":[]}"#, "/events"),
            (r#"{"url":"https://a.b/","events":"job.failed"}"#, "/events"),
            (r#"{"url":"https://a.b/","events":["failed"]}"#, "/events"),
            (r#"{"url":"https://a.b/","events":["job.failed","job.failed"]}"#, "/events"),
            (r#"{"url":"https://a.b/","secret":"x"}"#, "/secret"),
        ] {
            assert_eq!(place(json), at, "{json}");
        }
    }
}
