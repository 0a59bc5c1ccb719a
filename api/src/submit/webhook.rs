//! Parses the option `webhook`: `{"url": …, "events": […]}`, or `webhook.url=…&webhook.events=…,…` in a query.

use crunch_common::job::Status;
use serde_json::value::RawValue;

use super::given::{Given, Rejection, rejected};
use crate::json::pointer_segment;
use crate::webhook::{InvalidTarget, Target, WebhookRequest, event};

/// The final statuses of a job, all of which are reported unless some are selected.
const FINAL: [Status; 3] = [Status::Succeeded, Status::Failed, Status::Canceled];

pub(super) fn read(value: Given<'_>) -> Result<WebhookRequest, Rejection> {
    let members =
        value.members().ok_or_else(|| rejected("expected {\"url\": …, \"events\": […]}"))?;
    if let Some(name) = members.repeated() {
        return Err(rejected("is given twice").at(&format!("/{name}")));
    }
    let (mut target, mut selected) = (None, FINAL.to_vec());
    for (name, raw) in &members.all {
        match name.as_str() {
            "url" => {
                target = Some(url(Given::Json(raw)).map_err(|rejection| rejection.at("/url"))?)
            }
            "events" if Given::Json(raw).is_null() => {}
            "events" => selected = events(raw)?,
            name => {
                return Err(rejected("there is no such member here").at(&pointer_segment(name)));
            }
        }
    }
    let target = target.ok_or_else(|| rejected("is missing").at("/url"))?;
    Ok(WebhookRequest { target, events: selected })
}

/// Parses the same option from the pairs of a query.
pub(super) fn read_query(pairs: &[(String, String)]) -> Result<WebhookRequest, Rejection> {
    let find = |wanted: &str| {
        pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    let target = find("webhook.url").ok_or_else(|| rejected("needs webhook.url as well"))?;
    let target = url(Given::Text(target))?;
    let selected = match find("webhook.events") {
        Some(list) => {
            each_once(list.split(',').map(|name| status_named(name.trim())).collect::<Option<_>>())
                .ok_or_else(unknown_event)?
        }
        None => FINAL.to_vec(),
    };
    Ok(WebhookRequest { target, events: selected })
}

fn url(value: Given<'_>) -> Result<Target, Rejection> {
    let parsed = value.text().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| rejected(InvalidTarget.to_string()))
}

fn events(raw: &RawValue) -> Result<Vec<Status>, Rejection> {
    let names: Vec<String> = serde_json::from_str(raw.get()).unwrap_or_default();
    let statuses = each_once(names.iter().map(|name| status_named(name)).collect::<Option<_>>());
    statuses.ok_or_else(|| unknown_event().at("/events"))
}

/// Returns the statuses in their order; `None` if there are none or one is repeated.
fn each_once(statuses: Option<Vec<Status>>) -> Option<Vec<Status>> {
    let statuses = statuses?;
    let given = |status: &Status| statuses.contains(status);
    let once: Vec<_> = FINAL.into_iter().filter(given).collect();
    (!statuses.is_empty() && once.len() == statuses.len()).then_some(once)
}

fn status_named(name: &str) -> Option<Status> {
    FINAL.into_iter().find(|&status| event(status) == name)
}

fn unknown_event() -> Rejection {
    let names: Vec<_> = FINAL.into_iter().map(event).collect();
    rejected(format!("expected some of {}, each once", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_json(json: &str) -> Result<WebhookRequest, Rejection> {
        read(Given::Json(&RawValue::from_string(json.to_owned()).unwrap()))
    }

    fn place(json: &str) -> String {
        match read_json(json) {
            Err(Rejection::Wrong { pointer, .. }) => pointer,
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn every_end_is_sent_unless_some_are_named() {
        let all = read_json(r#"{"url":"https://example.com/a","events":null}"#).unwrap();
        assert_eq!((all.target.as_str(), &all.events[..]), ("https://example.com/a", &FINAL[..]));
        let some = read_json(r#"{"events":["job.failed"],"url":"https://example.com/"}"#).unwrap();
        assert_eq!(some.events, [Status::Failed]);
    }

    #[test]
    fn what_is_wrong_is_reported_with_its_place() {
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
