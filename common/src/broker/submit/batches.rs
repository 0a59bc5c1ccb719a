//! Which jobs share a call.

use std::collections::{BTreeMap, HashSet};

use super::NewJob;
use crate::job::Partition;
use crate::queue::QueueName;

/// Maximum number of jobs of one queue in a call: about a third of a millisecond of Redis' time.
const BATCH_JOBS: usize = 50;
/// Each further queue of a call costs about as much as this many jobs: its depth is read, its list is written, a worker
/// is woken.
const QUEUE_COSTS: usize = 1;
/// Maximum number of bytes in a call; a single larger job is sent alone.
const BATCH_BYTES: usize = 128 * 1024;
/// Groups jobs by partition into calls within the limits; the order within a partition is preserved.
pub(crate) fn batches(jobs: &[&NewJob]) -> Vec<Vec<usize>> {
    let mut open: BTreeMap<Partition, Batch<'_>> = BTreeMap::new();
    let mut full = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        let batch = open.entry(job.id.partition()).or_default();
        if !batch.has_room_for(job) {
            full.push(std::mem::take(batch).jobs);
        }
        batch.add(index, job);
    }
    full.extend(open.into_values().map(|batch| batch.jobs));
    full
}

/// The jobs of one call.
#[derive(Default)]
struct Batch<'a> {
    jobs: Vec<usize>,
    queues: HashSet<&'a QueueName>,
    bytes: usize,
    large: bool,
}

impl<'a> Batch<'a> {
    fn has_room_for(&self, job: &NewJob) -> bool {
        let more_queues = usize::from(!self.queues.contains(&job.queue));
        // The cost of the first queue is part of the call.
        let queues = (self.queues.len() + more_queues).saturating_sub(1);
        let cost = self.jobs.len() + 1 + queues * QUEUE_COSTS;
        let fits = cost <= BATCH_JOBS && self.bytes + job.size() <= BATCH_BYTES;
        self.jobs.is_empty() || (fits && !self.large && !job.is_large())
    }

    fn add(&mut self, index: usize, job: &'a NewJob) {
        self.jobs.push(index);
        self.queues.insert(&job.queue);
        self.bytes += job.size();
        self.large = job.is_large();
    }
}
