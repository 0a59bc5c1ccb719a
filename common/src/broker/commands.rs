//! Commands for several partitions, in order: those of one partition go to the node that has it.

use std::borrow::Cow;

use redis::{Cmd, Pipeline, Value};

use super::error::Error;
use crate::job::Partition;

/// Commands for several partitions, in order.
#[derive(Default)]
pub(crate) struct Commands {
    pipeline: Pipeline,
    /// The partitions of runs of commands, and where each run begins.
    runs: Vec<(Partition, usize)>,
}

impl Commands {
    /// The next commands are for this partition.
    pub(crate) fn at(&mut self, partition: Partition) -> &mut Pipeline {
        if self.runs.last().is_none_or(|&(last, _)| last != partition) {
            self.runs.push((partition, self.pipeline.len()));
        }
        &mut self.pipeline
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pipeline.is_empty()
    }

    /// Returns them as one part, or those of each partition.
    pub(super) fn parts(&self, apart: bool) -> Vec<Part<'_>> {
        match self.runs.first() {
            Some(&(partition, _)) if !apart => {
                let places = (0..self.pipeline.len()).collect();
                vec![Part { partition, pipeline: Cow::Borrowed(&self.pipeline), places }]
            }
            _ => self.by_partition(),
        }
    }

    fn by_partition(&self) -> Vec<Part<'_>> {
        let mut parts: Vec<Part<'_>> = Vec::new();
        let ends = self.runs.iter().skip(1).map(|&(_, begin)| begin).chain([self.pipeline.len()]);
        let mut commands = self.pipeline.cmd_iter().enumerate();
        for (&(partition, begin), end) in self.runs.iter().zip(ends) {
            let at = parts.iter().position(|part| part.partition == partition);
            let at = at.unwrap_or_else(|| {
                let pipeline = Cow::Owned(Pipeline::new());
                parts.push(Part { partition, pipeline, places: Vec::new() });
                parts.len() - 1
            });
            for (place, command) in commands.by_ref().take(end - begin) {
                parts[at].pipeline.to_mut().add_command(Cmd::clone(command));
                parts[at].places.push(place);
            }
        }
        parts
    }
}

/// Those of the commands that are sent as one request.
pub(super) struct Part<'a> {
    pub(super) partition: Partition,
    pub(super) pipeline: Cow<'a, Pipeline>,
    /// Their places among all commands.
    places: Vec<usize>,
}

/// Returns the outcome of each command, in order.
pub(super) fn in_order(
    parts: &[Part<'_>],
    sent: Vec<Result<Vec<Value>, Error>>,
) -> Vec<Result<Value, Error>> {
    let count = parts.iter().map(|part| part.places.len()).sum();
    let mut all = vec![Err(Error::timed_out()); count];
    for (part, replies) in parts.iter().zip(sent) {
        for (&place, reply) in part.places.iter().zip(each(replies, part.places.len())) {
            all[place] = reply;
        }
    }
    all
}

/// The outcome of each of that many commands.
fn each(replies: Result<Vec<Value>, Error>, count: usize) -> Vec<Result<Value, Error>> {
    match replies {
        Ok(values) => values.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); count],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_a_partition_keep_their_order_and_their_places() {
        let partition = |number| Partition::new(number).unwrap();
        let mut commands = Commands::default();
        for (number, key) in [(0, "a"), (0, "b"), (2, "c"), (0, "d"), (2, "e")] {
            commands.at(partition(number)).cmd("GET").arg(key);
        }
        let keys = |part: &Part<'_>| {
            let packed = part.pipeline.get_packed_pipeline();
            let words = String::from_utf8(packed).unwrap();
            words.split("\r\n").filter(|word| word.len() == 1).collect::<String>()
        };
        let read = |parts: &[Part<'_>]| -> Vec<_> {
            parts
                .iter()
                .map(|part| (part.partition.number(), keys(part), part.places.clone()))
                .collect()
        };
        let apart = commands.parts(true);
        let expected = [(0, "abd".to_owned(), vec![0, 1, 3]), (2, "ce".to_owned(), vec![2, 4])];
        assert_eq!(read(&apart), expected);
        assert_eq!(read(&commands.parts(false)), [(0, "abcde".to_owned(), (0..5).collect())]);

        let replies = vec![Err(Error::Full), Ok(vec![Value::Int(1), Value::Int(2)])];
        let replies = in_order(&apart, replies).into_iter().map(Result::ok).collect::<Vec<_>>();
        assert_eq!(replies, [None, None, Some(Value::Int(1)), None, Some(Value::Int(2))]);
        assert_eq!(Commands::default().parts(false).len(), 0);
    }
}
