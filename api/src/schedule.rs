//! Schedules over HTTP: what a body may contain, and the job of a tick. Both are checked in the same way: a schedule is
//! accepted if its job would be, and each tick checks again, because tasks and keys change.

mod job;
mod request;
mod schema;

pub(crate) use job::{Misfit, job_of, make};
pub(crate) use request::ScheduleRequest;
pub(crate) use schema::ScheduleSchema;
