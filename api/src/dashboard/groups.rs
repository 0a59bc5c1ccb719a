//! The groups of a queue, and the form that sets the rule of one, or the limit of the queue.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use crunch_common::broker::{GroupPage, GroupRule, GroupState, GroupSummary, LimitStatus};
use crunch_common::job::GroupName;
use crunch_common::queue::{LimitName, QueueName};
use crunch_common::time::whole_ms;
use serde_json::{Map, Number, Value, json};

use super::jobs::Filters;
use super::page::{self, Page, Section, TokenField};
use super::posted::Posted;
use super::viewer::{Rights, Viewer};
use super::{Call, see_other, text};
use crate::auth::Scope;
use crate::problem::{Problem, Violation};
use crate::query;
use crate::routes::groups::change;
use crate::routes::job_access::{known_queue, queue_name};
use crate::routes::queue_limit;
use crate::rule;
use crate::state::App;

/// How many groups a page has.
const LIMIT: usize = 100;

#[derive(Template)]
#[template(path = "dashboard/groups.html")]
struct Groups {
    queue: QueueName,
    page: GroupPage,
    rights: Rights,
}

impl Groups {
    /// The query of the form with the rule of a group.
    fn form_of(&self, group: &GroupSummary) -> String {
        let name = group.name.as_ref().map_or("", GroupName::as_str);
        let rule = fields(&group.rule);
        let fields = rule.iter().map(|(name, value)| (*name, value.as_str()));
        query::encoded([("group", name)].into_iter().chain(fields))
    }

    /// The query of the form with the rule for each group.
    fn form_of_each(&self) -> String {
        let rule = self.page.each.as_ref().map(fields).unwrap_or_default();
        let fields = rule.iter().map(|(name, value)| (*name, value.as_str()));
        query::encoded([("each", "1")].into_iter().chain(fields))
    }
}

/// Lists the groups of a queue, a page at a time.
pub(super) async fn list(
    app: &web::Data<App>,
    viewer: &Viewer,
    name: &str,
    query: &str,
) -> Result<Page, Problem> {
    let after = Filters::of(query, &["after"])?.parsed("after", "a number")?;
    let queue = queue_name(&viewer.caller, name)?;
    known_queue(app, &viewer.caller, &queue).await?;
    let page = app.broker.groups_of(&queue, after.unwrap_or(0), LIMIT).await?;
    let title = format!("Groups of {queue}");
    Page::new(title, Section::Queues, &Groups { queue, page, rights: viewer.rights() })
}

/// The fields of the form that make the rule.
const FIELDS: [&str; 7] =
    ["weight", "concurrency", "starts", "per_ms", "burst", "max_queued", "limits"];

/// The values of these fields for a rule.
fn fields(rule: &GroupRule) -> Vec<(&'static str, String)> {
    let number = |number: Option<u32>| number.map(|it| it.to_string());
    let values = [
        Some(rule.weight.to_string()),
        number(rule.concurrency),
        number(rule.rate.map(|rate| rate.starts)),
        rule.rate.map(|rate| whole_ms(rate.per).to_string()),
        number(rule.rate.map(|rate| rate.burst)),
        number(rule.max_queued),
    ];
    let given = FIELDS.into_iter().zip(values);
    given.filter_map(|(name, value)| Some((name, value?))).collect()
}

#[derive(Template)]
#[template(path = "dashboard/rule.html")]
struct RuleForm {
    queue: QueueName,
    /// Whether it is the rule for each group without one, not of a group.
    each: bool,
    /// Whether it is the limit of the queue.
    whole: bool,
    group: String,
    values: Vec<(&'static str, String)>,
    failure: Vec<String>,
    token: TokenField,
}

impl RuleForm {
    fn new(queue: QueueName, value: impl Fn(&str) -> String, failure: Vec<String>) -> Self {
        Self {
            queue,
            each: !value("each").is_empty(),
            whole: !value("whole").is_empty(),
            group: value("group"),
            values: FIELDS.into_iter().map(|name| (name, value(name))).collect(),
            failure,
            token: TokenField,
        }
    }

    fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    }

    fn page(&self) -> Result<Page, Problem> {
        let title = if self.whole { "Limit of" } else { "Rule in" };
        Page::new(format!("{title} {}", self.queue), Section::Queues, self)
    }
}

/// The query of the form with the limit of a queue.
pub(super) fn form_of_limit(limit: Option<&LimitStatus>) -> String {
    let limit = limit.map(|status| status.limit.clone()).unwrap_or_default();
    let (concurrency, rate) = (limit.own.concurrency, limit.own.rate);
    let values = fields(&GroupRule { concurrency, rate, ..GroupRule::default() });
    let values = values.iter().filter(|(name, _)| *name != "weight");
    let values = values.map(|(name, value)| (*name, value.as_str()));
    let shared: Vec<_> = limit.shared.iter().map(LimitName::as_str).collect();
    let shared = shared.join(" ");
    query::encoded([("whole", "1"), ("limits", &shared)].into_iter().chain(values))
}

/// Asks for the rule of a group, that for each, or the limit of the queue; the values come from the link.
pub(super) async fn form(
    app: &web::Data<App>,
    viewer: &Viewer,
    name: &str,
    query: &str,
) -> Result<Page, Problem> {
    viewer.require(Scope::Admin)?;
    let queue = queue_name(&viewer.caller, name)?;
    known_queue(app, &viewer.caller, &queue).await?;
    let given = Filters::read(query)?;
    RuleForm::new(queue, |name| given.get(name).to_owned(), Vec::new()).page()
}

/// Sets or removes the rule in the form; shows the form again if it is not valid.
pub(super) async fn act(
    call: &Call,
    viewer: &Viewer,
    name: &str,
    posted: &Posted,
) -> Result<HttpResponse, Problem> {
    let queue = queue_name(&viewer.caller, name)?;
    let problem = match apply(call, viewer, &queue, posted).await {
        Ok(()) if posted.get("whole").is_some() => {
            return Ok(see_other(&format!("/dashboard/queues/{queue}")));
        }
        Ok(()) => return Ok(see_other(&format!("/dashboard/queues/{queue}/groups"))),
        Err(problem) if problem.kind.status != StatusCode::UNPROCESSABLE_ENTITY => {
            return Err(problem);
        }
        Err(problem) => problem,
    };
    let failure = problem.errors().map(|error| error.to_string()).collect();
    let value = |name: &str| posted.get(name).unwrap_or_default().to_owned();
    let page = RuleForm::new(queue, value, failure).page()?;
    let mut response = page::show_once(&page, viewer);
    *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    Ok(response)
}

async fn apply(
    call: &Call,
    viewer: &Viewer,
    queue: &QueueName,
    posted: &Posted,
) -> Result<(), Problem> {
    if posted.get("whole").is_some() {
        let limit = match posted.get("remove") {
            Some(_) => None,
            None => Some(rule::read_limit(&body(posted).to_string()).map_err(Problem::violations)?),
        };
        return queue_limit::change(&call.app, &viewer.caller, queue, limit).await;
    }
    let group = match posted.get("each") {
        Some(_) => None,
        None => {
            let name = posted.get("group").unwrap_or_default().parse::<GroupName>();
            let wrong =
                |error| Problem::violations(vec![Violation::new("/group", format!("{error}"))]);
            Some(name.map_err(wrong)?)
        }
    };
    let rule = match posted.get("remove") {
        Some(_) => None,
        None => Some(rule::read(&body(posted).to_string()).map_err(Problem::violations)?),
    };
    change(&call.app, &viewer.caller, (queue, group.as_ref()), rule.as_ref()).await
}

/// The fields as the body of a request; what is no number is left as text, and rejected there.
fn body(posted: &Posted) -> Value {
    let value = |name: &str| {
        let text = posted.get(name)?.trim();
        let number = serde_json::from_str::<Number>(text).map(Value::Number);
        Some(number.unwrap_or_else(|_| json!(text)))
    };
    let members = |names: &[&str]| -> Map<String, Value> {
        names.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?))).collect()
    };
    let mut rule = members(&["weight", "concurrency", "max_queued"]);
    let rate = members(&["starts", "per_ms", "burst"]);
    if !rate.is_empty() {
        rule.insert("rate".to_owned(), Value::Object(rate));
    }
    if let Some(names) = posted.get("limits") {
        let names: Vec<_> = names.split([' ', ',']).filter(|name| !name.is_empty()).collect();
        rule.insert("limits".to_owned(), json!(names));
    }
    Value::Object(rule)
}
