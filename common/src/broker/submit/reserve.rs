//! Idempotency keys of jobs that live in another partition than their key: the key is reserved first, then the job is
//! submitted. `lua/reserve.lua` has the contract.
//!
//! Only jobs that are bound to a partition by something else than the key are concerned, and only if there are several
//! partitions. If a process dies between the two steps, the key names a job that does not exist: the repeated
//! request gets the same id, and submits it.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use redis::Value;

use super::{Enqueued, NewJob};
use crate::broker::error::Error;
use crate::broker::functions::Function;
use crate::broker::new_job::{IDEMPOTENCY_KEPT, Idempotency, half_as_hex};
use crate::broker::placement::home_of_key;
use crate::broker::{Broker, reply};
use crate::job::{JobId, Partition};
use crate::time::whole_ms;

/// What became of a reservation.
#[derive(Debug, Clone)]
pub(super) enum Reserved {
    /// The key is the job's.
    Own,
    /// An earlier request with the same key and the same content has this id.
    Earlier(JobId),
    /// The key was already used for a different request.
    Conflict,
}

impl Reserved {
    fn read(value: Value) -> Result<Self, Error> {
        let [code, id] = reply::fields(value)?;
        match reply::integer(&code)? {
            1 => Ok(Self::Own),
            3 => reply::parsed(id).map(Self::Earlier),
            -1 => Ok(Self::Conflict),
            code => Err(Error::unreadable(format!("reserve returned {code}"))),
        }
    }

    /// The answer to a submission, once the job was submitted under the reserved id.
    pub(super) fn answer(&self, answer: Enqueued) -> Enqueued {
        match (self, answer) {
            (Self::Earlier(_), Enqueued::AlreadyCreated(id)) => Enqueued::Replayed(id),
            (_, answer) => answer,
        }
    }
}

impl NewJob {
    /// The idempotency key, and its partition, if that is not the one of the job.
    pub(super) fn key_elsewhere(&self, partitions: u16) -> Option<(Partition, &Idempotency)> {
        let key = self.idempotency.as_ref()?;
        let home = home_of_key(key, partitions);
        (home != self.id.partition()).then_some((home, key))
    }
}

impl Broker {
    /// Reserves the keys of those jobs that need it. Returns the outcome of each, by the place of its job.
    pub(super) async fn reserve(
        &self,
        jobs: &[NewJob],
    ) -> BTreeMap<usize, Result<Reserved, Error>> {
        let partitions = self.settings.space.len();
        let mut calls: BTreeMap<Partition, (Vec<usize>, redis::Pipeline)> = BTreeMap::new();
        for (at, job) in jobs.iter().enumerate() {
            if let Some((partition, key)) = job.key_elsewhere(partitions) {
                let (places, pipeline) = calls.entry(partition).or_default();
                places.push(at);
                pipeline.add_command(self.reservation(partition, key, job.id, None));
            }
        }
        let outcomes = join_all(calls.into_iter().map(async |(partition, (places, pipeline))| {
            match self.pooled(partition, &pipeline).await {
                Ok(replies) => {
                    places.into_iter().zip(replies.into_iter().map(Reserved::read)).collect()
                }
                Err(error) => places.into_iter().map(|at| (at, Err(error.clone()))).collect(),
            }
        }));
        let outcomes: Vec<Vec<_>> = outcomes.await;
        outcomes.into_iter().flatten().collect()
    }

    /// Reserves the key of a job, also if it names that other id, under which there is no job.
    pub(super) async fn reserve_instead(
        &self,
        job: &NewJob,
        absent: JobId,
    ) -> Result<Reserved, Error> {
        let key = job.idempotency.as_ref();
        let key = key.ok_or_else(|| Error::unreadable("a replay of a job without a key"))?;
        let partition = home_of_key(key, self.settings.space.len());
        let call = self.reservation(partition, key, job.id, Some(absent));
        let reply = self.pooled(partition, redis::pipe().add_command(call)).await?.pop();
        Reserved::read(reply.unwrap_or(Value::Nil))
    }

    fn reservation(
        &self,
        partition: Partition,
        key: &Idempotency,
        id: JobId,
        absent: Option<JobId>,
    ) -> redis::Cmd {
        let mut call = self.settings.call(Function::Reserve, partition);
        call.arg(half_as_hex(&key.digest)).arg(id.to_string());
        call.arg(half_as_hex(&key.fingerprint)).arg(whole_ms(IDEMPOTENCY_KEPT));
        call.arg(absent.map_or(String::new(), |id| id.to_string()));
        call
    }
}
