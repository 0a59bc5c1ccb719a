//! The tasks of a server: what its children declare, joined with what the file says about them.

use std::collections::BTreeMap;
use std::time::Duration;

use crunch_common::Pointer;
use crunch_common::backoff::Backoff;
use crunch_common::job::{ContentType, MAX_ATTEMPTS_LIMIT, MAX_DURATION, Priority, Unique};
use crunch_common::queue::QueueName;
use crunch_common::schema::Schema;
use crunch_common::task::{Indexes, TaskDescriptor, TaskName};
use crunch_common::time::whole_ms;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::task_values::TaskValues;

/// The values that the file has for tasks of the server, which win over those of the children.
pub(crate) type FileValues = BTreeMap<TaskName, TaskValues>;

/// The most tasks that a server may have: as many as the API keeps for all workers by default.
const MAX_TASKS: usize = 1000;

/// A task as a child declares it: the members of a task in `GET /tasks/{task}`.
#[derive(Deserialize)]
struct DeclaredTask<'a> {
    name: TaskName,
    description: Option<String>,
    queue: Option<QueueName>,
    timeout_ms: Option<u64>,
    max_attempts: Option<u32>,
    backoff: Option<Backoff>,
    priority: Option<Priority>,
    retention_ms: Option<u64>,
    accepts: Option<Vec<ContentType>>,
    content_type: Option<ContentType>,
    max_payload: Option<u64>,
    max_result: Option<u64>,
    indexes: Option<Vec<String>>,
    group: Option<String>,
    start_within_ms: Option<u64>,
    unique: Option<Unique>,
    #[serde(borrow)]
    payload_schema: Option<&'a RawValue>,
    #[serde(borrow)]
    result_schema: Option<&'a RawValue>,
}

/// Returns the tasks by the body of a hello; without one, those of the file.
///
/// # Errors
/// Why no child of this server can work, for operators.
pub(crate) fn tasks(body: Option<&[u8]>, file: &FileValues) -> Result<Vec<TaskDescriptor>, String> {
    let mut values = match body {
        Some(body) => declared(body)?,
        None => file.keys().map(|name| (name.clone(), TaskValues::default())).collect(),
    };
    if values.is_empty() {
        return Err("its hello declares no task, and tasks.toml has no [[server.task]]".to_owned());
    }
    for (name, in_file) in file {
        let declared = values.get_mut(name).ok_or_else(|| {
            format!(
                "tasks.toml has values for its task {name:?}, which its hello does not declare",
                name = name.as_str()
            )
        })?;
        *declared = in_file.clone().or(std::mem::take(declared));
    }
    Ok(values.into_iter().map(|(name, values)| values.describe(name)).collect())
}

fn declared(body: &[u8]) -> Result<FileValues, String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let tasks: Vec<DeclaredTask<'_>> = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| format!("the tasks of its hello: {error}"))?;
    json.end().map_err(|error| format!("the tasks of its hello: {error}"))?;
    if tasks.len() > MAX_TASKS {
        return Err(format!("its hello declares {} tasks, more than {MAX_TASKS}", tasks.len()));
    }
    let mut values = FileValues::new();
    for task in tasks {
        let name = task.name.clone();
        if name.is_reserved() {
            return Err(format!("its task {:?} is reserved for Crunch", name.as_str()));
        }
        let read = task.values().map_err(|why| format!("its task {:?}: {why}", name.as_str()))?;
        if values.insert(name.clone(), read).is_some() {
            return Err(format!("its hello declares task {:?} twice", name.as_str()));
        }
    }
    Ok(values)
}

impl DeclaredTask<'_> {
    fn values(self) -> Result<TaskValues, String> {
        let most_ms = whole_ms(MAX_DURATION);
        within("timeout_ms", self.timeout_ms, 1, most_ms)?;
        within("retention_ms", self.retention_ms, 1, most_ms)?;
        within("start_within_ms", self.start_within_ms, 1, most_ms)?;
        within("max_attempts", self.max_attempts.map(u64::from), 1, MAX_ATTEMPTS_LIMIT.into())?;
        within("max_payload", self.max_payload, 0, TaskDescriptor::MAX_PAYLOAD_LIMIT)?;
        within("max_result", self.max_result, 1, TaskDescriptor::MAX_RESULT_LIMIT)?;
        if self.queue.as_ref().is_some_and(QueueName::is_reserved) {
            return Err("its queue is reserved for Crunch".to_owned());
        }
        if self.accepts.as_ref().is_some_and(Vec::is_empty) {
            return Err("accepts: expected at least one content type".to_owned());
        }
        if let Some(Backoff { base, max }) = self.backoff
            && (base > max || max > MAX_DURATION)
        {
            return Err("backoff: base_ms is longer than max_ms, or that than a year".to_owned());
        }
        let indexes = self.indexes.map(Indexes::new).transpose();
        let group = self.group.map(|pointer| pointer.parse::<Pointer>()).transpose();
        Ok(TaskValues {
            queue: self.queue,
            description: self.description,
            timeout: self.timeout_ms.map(Duration::from_millis),
            max_attempts: self.max_attempts,
            backoff: self.backoff,
            priority: self.priority,
            retention: self.retention_ms.map(Duration::from_millis),
            accepts: self.accepts,
            content_type: self.content_type,
            max_payload: self.max_payload,
            max_result: self.max_result,
            indexes: indexes.map_err(|error| format!("indexes: {error}"))?,
            group: group.map_err(|error| format!("group: {error}"))?,
            start_within: self.start_within_ms.map(Duration::from_millis),
            unique: self.unique,
            payload_schema: schema("payload_schema", self.payload_schema)?,
            result_schema: schema("result_schema", self.result_schema)?,
        })
    }
}

fn within(member: &str, value: Option<u64>, min: u64, max: u64) -> Result<(), String> {
    match value {
        Some(value) if !(min..=max).contains(&value) => {
            Err(format!("{member}: {value} is not from {min} to {max}"))
        }
        Some(_) | None => Ok(()),
    }
}

fn schema(member: &str, json: Option<&RawValue>) -> Result<Option<Schema>, String> {
    let Some(json) = json.filter(|json| json.get() != "null") else { return Ok(None) };
    json.get().parse().map(Some).map_err(|error| format!("{member}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, values: TaskValues) -> FileValues {
        FileValues::from([(name.parse().unwrap(), values)])
    }

    #[test]
    fn the_values_of_the_file_win_over_those_of_the_child_and_defaults_fill_the_rest() {
        let body = br#"[{"name":"a","queue":"q","timeout_ms":5,"payload_schema":{"type":"object"},
            "retention_ms":null,"indexes":["customer"],"group":"/customer","start_within_ms":9,"later":[1]},{"name":"b"}]"#;
        let values = TaskValues {
            max_attempts: Some(7),
            queue: Some("f".parse().unwrap()),
            ..TaskValues::default()
        };
        let tasks = tasks(Some(body), &file("a", values)).unwrap();
        assert_eq!(tasks.len(), 2);
        let (first, second) = (&tasks[0], &tasks[1]);
        assert_eq!((first.queue.as_str(), first.max_attempts), ("f", 7));
        assert_eq!(first.timeout, Duration::from_millis(5));
        assert!(first.payload_schema.is_some());
        assert!(first.indexes.contains("customer"));
        assert_eq!(first.group.as_ref().unwrap().as_str(), "/customer");
        assert_eq!(first.start_within_ms, Some(9));
        assert_eq!(*second, TaskDescriptor::new("b".parse().unwrap()));
    }

    #[test]
    fn a_child_may_leave_its_tasks_to_the_file() {
        let tasks = tasks(None, &file("a", TaskValues::default())).unwrap();
        assert_eq!(tasks, [TaskDescriptor::new("a".parse().unwrap())]);
    }

    #[test]
    fn what_cannot_be_declared_is_named() {
        let cases = [
            ("{}", "expected a sequence"),
            ("[", "EOF"),
            ("[] 1", "trailing"),
            ("[]", "declares no task"),
            (r#"[{"name":"No"}]"#, "[0].name"),
            (r#"[{"name":"crunch.webhooks"}]"#, "is reserved"),
            (r#"[{"name":"a"},{"name":"a"}]"#, "\"a\" twice"),
            (r#"[{"name":"a","timeout_ms":0}]"#, "timeout_ms: 0 is not from 1"),
            (r#"[{"name":"a","start_within_ms":0}]"#, "start_within_ms: 0 is not from 1"),
            (r#"[{"name":"a","max_attempts":101}]"#, "max_attempts: 101"),
            (r#"[{"name":"a","accepts":[]}]"#, "at least one"),
            (r#"[{"name":"a","backoff":{"base_ms":2,"max_ms":1}}]"#, "longer than max_ms"),
            (r#"[{"name":"a","result_schema":{"type":"text"}}]"#, "result_schema"),
            (r#"[{"name":"a","payload_schema":"x"}]"#, "payload_schema"),
            (r#"[{"name":"a","indexes":["b","b"]}]"#, "indexes: \"b\" is listed twice"),
            (r#"[{"name":"a","indexes":["b","c","d","e"]}]"#, "indexes: at most 3 labels"),
            (r#"[{"name":"a","group":"customer"}]"#, "group: expected a JSON Pointer"),
            (r#"[{"name":"a","group":7}]"#, "[0].group"),
            (r#"[{"name":"a","indexes":[""]}]"#, "indexes: \"\" is not the name of a label"),
        ];
        for (body, why) in cases {
            let error = tasks(Some(body.as_bytes()), &FileValues::new()).unwrap_err();
            assert!(error.contains(why), "{body}: {error}");
        }
        let error =
            tasks(Some(br#"[{"name":"a"}]"#), &file("b", TaskValues::default())).unwrap_err();
        assert!(error.contains("\"b\""), "{error}");
    }
}
