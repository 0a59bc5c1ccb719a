//! The job of a tick: made as a submission of the schedule's key would be, when the schedule is accepted and at each tick.

use actix_web::http::StatusCode;
use crunch_common::broker::{NewJob, ScheduleRecord, ScheduledBy};
use crunch_common::job::ContentType;

use super::request::read_options;
use crate::auth::{Caller, Scope};
use crate::problem::{Problem, UNKNOWN_TASK};
use crate::state::App;
use crate::submit::{Submission, check_fit, check_webhook, undeclared};

/// Why no job can be made for a tick.
#[derive(Debug)]
pub(crate) enum Misfit {
    /// It cannot be made until somebody acts: a word, and the reason.
    Lasting(&'static str, String),
    /// The same, as a submission would be refused.
    Refused(Problem),
    /// It may be possible in a moment.
    Passing(Problem),
}

impl From<Problem> for Misfit {
    fn from(problem: Problem) -> Self {
        let status = problem.kind.status;
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            Self::Passing(problem)
        } else {
            Self::Refused(problem)
        }
    }
}

/// Returns the caller whose rights the jobs of a schedule have.
fn owner_of(app: &App, record: &ScheduleRecord) -> Result<Caller, Misfit> {
    let Some(owner) = &record.spec.owner else { return Ok(Caller::of_the_deployment()) };
    let caller = match owner.id.parse() {
        Ok(id) => app.authority.owner(&id),
        Err(_) => None,
    };
    let gone = || {
        format!("the API key {} ({}), which made it, is not valid any more", owner.name, owner.id)
    };
    let caller = caller.ok_or_else(|| Misfit::Lasting("key", gone()))?;
    if !caller.has(Scope::Submit) {
        let reason = format!("the API key {} no longer has the scope submit", owner.name);
        return Err(Misfit::Lasting("key", reason));
    }
    Ok(caller)
}

/// Makes the job of a tick of a schedule.
///
/// # Errors
/// Why there is none.
pub(crate) async fn job_of(
    app: &App,
    record: &ScheduleRecord,
    by: ScheduledBy,
) -> Result<NewJob, Misfit> {
    let caller = owner_of(app, record)?;
    let options = read_options(&record.spec.job).map_err(Problem::violations)?;
    let payload = record.payload.clone();
    let submission = Submission { payload, content_type: ContentType::json(), options };
    make(app, &caller, (&record.spec.task, by), submission).await
}

/// Makes the job of a tick from a submission. Its payload stays with the schedule: in the job there is none.
pub(crate) async fn make(
    app: &App,
    caller: &Caller,
    (task, by): (&crunch_common::task::TaskName, ScheduledBy),
    mut submission: Submission,
) -> Result<NewJob, Misfit> {
    let found = app.catalog.find(task).await.map_err(Problem::from)?;
    let Some(declared) = found else {
        let problem = undeclared(UNKNOWN_TASK, task, &app.catalog);
        return Err(Misfit::Lasting("task", problem.detail().to_owned()));
    };
    submission.options.schedule = Some(by);
    check_fit(&declared, &submission, "").await?;
    check_webhook(app, &submission.options, "/job")?;
    let payload_size = submission.payload.len() as u64;
    let mut job = submission.into_job((app, caller), (&declared.task, "/payload"), None).await?;
    job.options.payload_size = payload_size;
    job.payload.clear();
    Ok(job)
}
