//! One `[[limit]]`: how many jobs of a queue, or of the queues that share it, run and start in a time.

use std::time::Duration;

use crunch_common::broker::{GroupRule, Limit, QueueLimit, Rate};
use crunch_common::queue::LimitName;

use super::declaration::queue_name;
use super::duration;
use super::table::{self, Table, mistake};
use crate::limits::FileLimits;

/// Reads a limit, and adds it to those before; adds mistakes to `table`.
pub(super) fn read(table: &mut Table<'_>, limits: &mut FileLimits) {
    let concurrency =
        table.take("concurrency", |value| table::number(value, 1..=GroupRule::MAX_JOBS.into()));
    let concurrency = concurrency.and_then(|most| u32::try_from(most).ok());
    let rate = rate(table);
    if !table.has("name") && !table.has("queue") {
        table.note_missing("name or queue is missing");
    }
    let queue = table.take_spanned("queue", queue_name);
    let name = table.take_spanned("name", table::parsed::<LimitName>);
    let queues = table.take_spanned("queues", |value| table::list(value, queue_name));
    table.refuse_the_rest();
    if table.mistakes.is_empty() && concurrency.is_none() && rate.is_none() {
        table.note_missing("concurrency or rate is missing");
    }
    let limit = Limit { concurrency, rate };
    match (name, queue, queues) {
        (Some(_), Some((at, _)), _) => {
            table.note(at, "queue: only one of name and queue may be given".to_owned());
        }
        (None, Some(_), Some((at, _))) => {
            table.note(at, "queues: only a limit with a name is shared".to_owned());
        }
        (None, Some((at, queue)), None) => {
            if limits.queues.entry(queue).or_default().own.replace(limit).is_some() {
                table.note(at, "queue: has two limits".to_owned());
            }
        }
        (Some((at, name)), None, queues) => {
            if limits.shared.insert(name.clone(), limit).is_some() {
                table.note(at, format!("there are two limits {:?}", name.as_str()));
            }
            let (at, queues) = queues.unwrap_or_default();
            for queue in queues {
                let shared = &mut limits.queues.entry(queue.clone()).or_default().shared;
                if shared.contains(&name) {
                    table.note(at.clone(), format!("queues: {queue} is there twice"));
                } else if shared.len() == QueueLimit::MAX_SHARED {
                    table.note(at.clone(), format!("queues: {queue} shares more than two limits"));
                } else {
                    shared.push(name.clone());
                }
            }
        }
        (None, None, _) => {}
    }
}

/// `rate = { starts = 100, per = "1m", burst = 5 }`
fn rate(outer: &mut Table<'_>) -> Option<Rate> {
    const MIN: Duration = Duration::from_millis(1);
    let (at, entries) = outer.take_spanned("rate", table::table)?;
    let mut table = Table::new(entries, at);
    let counts = 1..=u64::from(Rate::MAX_STARTS);
    let count = |number: u64| u32::try_from(number).unwrap_or(Rate::MAX_STARTS);
    let starts = table.need("starts", |value| table::number(value, counts.clone()));
    let per = table.need("per", |value| match duration::at_least(MIN, value)? {
        long if long > Rate::MAX_TIME => Err(mistake(value, "expected at most a day (24h)")),
        per => Ok(per),
    });
    let burst = table.take("burst", |value| table::number(value, counts.clone()));
    table.refuse_the_rest();
    outer.adopt("rate", table);
    let usual = Rate::usual(count(starts?.1), per?.1);
    Some(Rate { burst: burst.map_or(usual.burst, count), ..usual })
}

#[cfg(test)]
mod tests {
    use crate::commands::{Commands, Rest};
    use crate::limits::FileQueue;
    use crate::registry::Registry;

    use super::*;

    fn read(text: &str) -> Result<Rest, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tasks.toml");
        std::fs::write(&path, text).unwrap();
        let joined = Commands::read(&path, 1024, 4).unwrap().join(&mut Registry::default());
        let here = format!("{}:", path.display());
        joined.map_err(|error| {
            error.to_string().lines().map(|line| line.replace(&here, "")).collect()
        })
    }

    #[test]
    fn every_key_finds_its_place() {
        let text = r#"
            [[limit]]
            name = "openai"
            concurrency = 4
            queues = ["chat", "embed"]
            [[limit]]
            name = "tokens"
            rate = { starts = 100, per = "1m", burst = 5 }
            queues = ["chat"]
            [[limit]]
            queue = "chat"
            rate = { starts = 100, per = "1m" }
        "#;
        let limits = read(text).unwrap().limits;
        let rate = Rate { starts: 100, per: Duration::from_secs(60), burst: 5 };
        let name = |name: &str| name.parse::<LimitName>().unwrap();
        assert_eq!(
            limits.shared.into_iter().collect::<Vec<_>>(),
            [
                (name("openai"), Limit { concurrency: Some(4), rate: None }),
                (name("tokens"), Limit { concurrency: None, rate: Some(rate) }),
            ]
        );
        let own = Limit { concurrency: None, rate: Some(Rate { burst: 1, ..rate }) };
        let chat = FileQueue { own: Some(own), shared: vec![name("openai"), name("tokens")] };
        assert_eq!(limits.queues[&"chat".parse().unwrap()], chat);
        let embed = FileQueue { own: None, shared: vec![name("openai")] };
        assert_eq!(limits.queues[&"embed".parse().unwrap()], embed);
    }

    #[test]
    fn problems_name_their_lines() {
        for (text, expected) in [
            ("concurrency = 1", "1: name or queue is missing"),
            ("name = 'a'", "1: concurrency or rate is missing"),
            ("name = 'A'\nconcurrency = 1", "2: name: \"A\": must be"),
            ("name = 'a'\nconcurrency = 0", "3: concurrency: expected"),
            ("name = 'a'\nrate = { starts = 1 }", "3: rate: per is missing"),
            (
                "name = 'a'\nrate = { starts = 1, per = '2d' }",
                "3: rate: per: expected at most a day",
            ),
            ("name = 'a'\nqueue = 'q'\nconcurrency = 1", "3: queue: only one of name and queue"),
            ("queue = 'q'\nconcurrency = 1\nqueues = ['q']", "4: queues: only a limit with a name"),
            ("name = 'a'\nconcurrency = 1\nqueues = ['q', 'q']", "4: queues: q is there twice"),
            ("name = 'a'\nconcurrency = 1\nqueues = ['crunch.webhooks']", "4: queues: "),
            ("name = 'a'\nconcurrency = 1\nsize = 1", "4: unknown key \"size\""),
            (
                "name = 'a'\nconcurrency = 1\n[[limit]]\nname = 'a'\nconcurrency = 1",
                "5: there are two limits",
            ),
            (
                "queue = 'a'\nconcurrency = 1\n[[limit]]\nqueue = 'a'\nconcurrency = 1",
                "5: queue: has two limits",
            ),
        ] {
            let problems = read(&format!("[[limit]]\n{text}\n")).unwrap_err();
            assert!(
                problems.len() == 1 && problems[0].trim().starts_with(expected),
                "{text}: {problems:?}"
            );
        }
        let three = (0..3)
            .map(|at| format!("[[limit]]\nname = 'l{at}'\nconcurrency = 1\nqueues = ['q']\n"));
        let problems = read(&three.collect::<String>()).unwrap_err();
        assert!(
            problems[0].trim().starts_with("12: queues: q shares more than two limits"),
            "{problems:?}"
        );
    }
}
