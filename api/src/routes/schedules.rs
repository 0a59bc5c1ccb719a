//! Schedules: what they are, and what operators do with them.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use crunch_common::broker::{
    BackfillChange, Condition, Enqueued, Fired, Owner, Pause, PutOutcome, PutSchedule,
    ScheduleChange, ScheduleOrigin, ScheduleRecord, ScheduleSpec, ScheduledBy, ScheduledJob,
    TickOutcome, Why,
};
use crunch_common::schedule::{InvalidTiming, Rule, ScheduleName};

use super::Answer;
use super::paging::Paging;
use super::shared_parameters::{PageQuery, SchedulePath};
use crate::action_log::Action;
use crate::auth::{Caller, Scope};
use crate::document::{JobDocument, ScheduleDocument, SchedulePage, ok, removed};
use crate::etag::{self, IfMatch};
use crate::problem::{
    FORBIDDEN, NOT_FOUND, PRECONDITION_FAILED, Problem, SCHEDULE_BUSY, SCHEDULE_CHANGED,
    SCHEDULE_OF_FILE, SCHEDULE_PAUSED, TOO_MANY_SCHEDULES, Violation,
};
use crate::schedule::{Misfit, ScheduleRequest, ScheduleSchema, job_of, make};
use crate::state::App;
use crate::submit::{Accepted, Results, accepted};
use crate::{backfill, body, checks, json};

/// The largest body of a schedule, in bytes: its payload, and room for its other members.
const MAX_BODY: u64 = 2 * 64 * 1024;
/// The largest body that names a period, in bytes: one has a tenth.
const MAX_PERIOD: u64 = 1024;

/// Lists schedules by name.
#[utoipa::path(get, path = "/schedules", tag = "schedules", operation_id = "listSchedules",
    params(PageQuery),
    responses((status = 200, description = "Those whose queue the caller may use", body = SchedulePage)))]
pub(crate) async fn list(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Answer {
    let paging = Paging::<ScheduleName>::of(&request)?;
    let records =
        app.broker.schedules(paging.after.as_ref(), caller.queues(), paging.limit).await?;
    let next =
        (records.len() == paging.limit).then(|| records.last().map(|last| last.name.clone()));
    let (mut response, next_cursor) = paging.linked(&request, next.flatten());
    let items = records.into_iter().map(ScheduleDocument::listed).collect();
    Ok(response.json(SchedulePage::new(items, next_cursor)))
}

/// Returns a schedule, with its next ten runs.
#[utoipa::path(get, path = "/schedules/{name}", tag = "schedules", operation_id = "getSchedule",
    params(SchedulePath),
    responses(
        (status = 200, description = "The schedule; `ETag` is its version", body = ScheduleDocument),
        (status = 404, description = "There is no such schedule"),
    ))]
pub(crate) async fn show(app: web::Data<App>, caller: Caller, name: web::Path<String>) -> Answer {
    Ok(answer(StatusCode::OK, find(&app, &caller, &name).await?))
}

/// Creates a schedule, or replaces it. Repeating the request changes nothing.
#[utoipa::path(put, path = "/schedules/{name}", tag = "schedules", operation_id = "putSchedule",
    params(SchedulePath),
    request_body = ScheduleSchema,
    responses(
        (status = 200, description = "It was changed, or was so already", body = ScheduleDocument),
        (status = 201, description = "It was created", body = ScheduleDocument),
        (status = 403, description = "It belongs to another key, or the key does not allow its queue"),
        (status = 409, description = "There are as many schedules as may be, or it does not come from a request"),
        (status = 412, description = "`If-Match` or `If-None-Match` is not met"),
        (status = 422, description = "It is invalid; `errors` lists the places"),
    ))]
pub(crate) async fn put(
    app: web::Data<App>,
    caller: Caller,
    name: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let bytes = body::json(&request, payload, &app.budgets.requests, MAX_BODY).await?;
    let wanted = checks::read(&bytes, ScheduleRequest::read).await?.map_err(Problem::violations)?;
    let condition = |known: Option<&ScheduleRecord>| condition_of(&request, known);
    let (status, record) = Box::pin(put_wanted(&app, &caller, &name, (wanted, condition))).await?;
    Ok(answer(status, record))
}

/// Creates a schedule, or replaces it, if the condition on what is known is met.
pub(crate) async fn put_wanted(
    app: &App,
    caller: &Caller,
    name: &str,
    (wanted, condition): (
        ScheduleRequest,
        impl FnOnce(Option<&ScheduleRecord>) -> Result<Condition, Problem>,
    ),
) -> Result<(StatusCode, ScheduleRecord), Problem> {
    let name = schedule_name(name)?;
    let known = app.broker.schedule(&name).await?;
    if let Some(known) = &known {
        may_change(caller, known)?;
    }
    let condition = condition(known.as_ref())?;
    let owner = caller.key_id().map(|id| Owner {
        id: id.to_string(),
        name: caller.key_name().unwrap_or_default().to_owned(),
    });
    let now = app.broker.redis_time().await?;
    let first = wanted.timing.first_after(now).map_err(|error| wrong_timing(&wanted, error))?;
    let by = ScheduledBy { name: name.clone(), tick: first };
    let payload = wanted.submission.payload.to_vec();
    let job = make(app, caller, (&wanted.task, by), wanted.submission).await;
    let job = job.map_err(|misfit| refused(misfit, "/task"))?;
    let spec = ScheduleSpec {
        task: wanted.task,
        queue: job.queue,
        group: job.options.group,
        job: wanted.job,
        missed: wanted.missed,
        overlap: wanted.overlap,
        owner,
    };
    let (timing, origin) = (wanted.timing, ScheduleOrigin::Api);
    let put = PutSchedule { name: name.clone(), timing, spec, payload, origin, condition };
    let outcome = app.broker.put_schedule(&put, first).await.map_err(Problem::in_doubt)?;
    let status = match outcome {
        PutOutcome::Created => StatusCode::CREATED,
        PutOutcome::Changed | PutOutcome::Unchanged => StatusCode::OK,
        PutOutcome::ConditionFailed => return Err(condition_failed()),
        PutOutcome::TooMany => {
            let detail = "there are as many schedules as may be: ten thousand";
            return Err(Problem::new(TOO_MANY_SCHEDULES, detail));
        }
        PutOutcome::OtherOrigin => return Err(of_file()),
    };
    if outcome != PutOutcome::Unchanged {
        record(app, caller, "put-schedule", &put.name, &put.spec).await;
    }
    let record = app.broker.schedule(&name).await?.ok_or_else(no_such_schedule)?;
    Ok((status, record))
}

/// Removes a schedule. Its jobs stay as they are.
#[utoipa::path(delete, path = "/schedules/{name}", tag = "schedules", operation_id = "deleteSchedule",
    params(SchedulePath),
    responses(
        (status = 204, description = "It was removed"),
        (status = 404, description = "There is no such schedule"),
        (status = 412, description = "`If-Match` is not met"),
    ))]
pub(crate) async fn delete(
    app: web::Data<App>,
    caller: Caller,
    name: web::Path<String>,
    request: HttpRequest,
) -> Answer {
    let known = find(&app, &caller, &name).await?;
    may_change(&caller, &known)?;
    let version = match condition_of(&request, Some(&known))? {
        Condition::Version(version) => Some(version),
        Condition::None | Condition::New | Condition::Known => None,
    };
    delete_known(&app, &caller, (&known, version)).await?;
    Ok(removed())
}

pub(crate) async fn delete_known(
    app: &App,
    caller: &Caller,
    (known, version): (&ScheduleRecord, Option<u64>),
) -> Result<(), Problem> {
    may_change(caller, known)?;
    match app.broker.delete_schedule(known, version).await.map_err(Problem::in_doubt)? {
        ScheduleChange::Done => {}
        ScheduleChange::Unknown => return Err(no_such_schedule()),
        ScheduleChange::OtherVersion => return Err(condition_failed()),
    }
    record(app, caller, "delete-schedule", &known.name, &known.spec).await;
    Ok(())
}

/// Pauses a schedule: it has no ticks until it is resumed, and none of them is made up for.
#[utoipa::path(post, path = "/schedules/{name}/pause", tag = "schedules", operation_id = "pauseSchedule",
    params(SchedulePath),
    responses(
        (status = 200, description = "The schedule", body = ScheduleDocument),
        (status = 404, description = "There is no such schedule"),
    ))]
pub(crate) async fn pause(app: web::Data<App>, caller: Caller, name: web::Path<String>) -> Answer {
    let known = find(&app, &caller, &name).await?;
    pause_known(&app, &caller, &known).await?;
    Ok(answer(StatusCode::OK, find(&app, &caller, &name).await?))
}

pub(crate) async fn pause_known(
    app: &App,
    caller: &Caller,
    known: &ScheduleRecord,
) -> Result<(), Problem> {
    may_change(caller, known)?;
    let by = caller.key_name().map_or_else(|| "by a request".to_owned(), |key| format!("by {key}"));
    let reason = (Pause::REQUESTED, by.as_str());
    let change = app.broker.pause_schedule(known, None, reason).await.map_err(Problem::in_doubt)?;
    done(change)?;
    record(app, caller, "pause-schedule", &known.name, &known.spec).await;
    Ok(())
}

/// Resumes a schedule with its next tick from now.
#[utoipa::path(post, path = "/schedules/{name}/resume", tag = "schedules", operation_id = "resumeSchedule",
    params(SchedulePath),
    responses(
        (status = 200, description = "The schedule", body = ScheduleDocument),
        (status = 404, description = "There is no such schedule"),
        (status = 409, description = "It was changed meanwhile"),
    ))]
pub(crate) async fn resume(app: web::Data<App>, caller: Caller, name: web::Path<String>) -> Answer {
    let known = find(&app, &caller, &name).await?;
    resume_known(&app, &caller, &known).await?;
    Ok(answer(StatusCode::OK, find(&app, &caller, &name).await?))
}

pub(crate) async fn resume_known(
    app: &App,
    caller: &Caller,
    known: &ScheduleRecord,
) -> Result<(), Problem> {
    may_change(caller, known)?;
    let now = app.broker.redis_time().await?;
    let next = known
        .timing
        .next_after(now)
        .map_err(|error| Problem::violations(vec![Violation::new("", error.to_string())]))?;
    done(app.broker.resume_schedule(known, next).await.map_err(Problem::in_doubt)?)?;
    record(app, caller, "resume-schedule", &known.name, &known.spec).await;
    Ok(())
}

/// Submits a job of a schedule now. Its ticks are not changed by that.
#[utoipa::path(post, path = "/schedules/{name}/run", tag = "schedules", operation_id = "runSchedule",
    params(SchedulePath),
    responses(
        (status = 202, description = "The job", body = JobDocument),
        (status = 404, description = "There is no such schedule"),
        (status = 409, description = "Its last job has not ended, and its jobs must not overlap; or another job holds its lock"),
        (status = 422, description = "Its payload does not fit its task any more"),
    ))]
pub(crate) async fn run(app: web::Data<App>, caller: Caller, name: web::Path<String>) -> Answer {
    let known = find(&app, &caller, &name).await?;
    let accepted = run_known(&app, &caller, &known).await?;
    let mut response = HttpResponse::Accepted();
    accepted.write_to(&mut response);
    let document = accepted.document_for(&caller);
    let job = accepted.job();
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    response.insert_header((header::LOCATION, app.public_url.job(job.id)));
    Ok(response.json(document(job)))
}

pub(crate) async fn run_known(
    app: &App,
    caller: &Caller,
    known: &ScheduleRecord,
) -> Result<Accepted, Problem> {
    may_change(caller, known)?;
    let tick = app.broker.redis_time().await?;
    let by = ScheduledBy { name: known.name.clone(), tick };
    let job = job_of(app, known, by).await.map_err(|misfit| refused(misfit, ""))?;
    if job.id.partition() != app.broker.partition_of_schedule(known) {
        let detail = "its queue has changed with its task: PUT it again";
        return Err(Problem::new(SCHEDULE_CHANGED, detail));
    }
    let partition = job.id.partition();
    let jobs = vec![ScheduledJob { tick, job: job.clone() }];
    let mut fired =
        app.broker.fire(partition, &[(known, Why::Run, jobs)]).await.map_err(Problem::in_doubt)?;
    let fired = fired.pop().ok_or_else(no_such_schedule)?.map_err(Problem::in_doubt)?;
    let answer = match fired {
        Fired::Done(outcomes) => match outcomes.first() {
            Some(TickOutcome::Submitted(id)) => Enqueued::AlreadyCreated(*id),
            Some(TickOutcome::Existing(id)) => Enqueued::Existing(*id),
            Some(TickOutcome::Locked(id)) => Enqueued::Locked(*id),
            Some(TickOutcome::Rejected(code)) => return Err(no_room(&job, *code)),
            Some(TickOutcome::Skipped | TickOutcome::Buffered) | None => {
                return Err(no_such_schedule());
            }
        },
        Fired::Busy(id) => {
            let detail = format!("its job {id} has not ended, and its jobs must not overlap");
            return Err(Problem::new(SCHEDULE_BUSY, detail).with("job", id.to_string().into()));
        }
        Fired::Already | Fired::Changed | Fired::Paused => {
            return Err(Problem::new(SCHEDULE_CHANGED, "it was changed meanwhile"));
        }
    };
    if !matches!(answer, Enqueued::Locked(_)) {
        record(app, caller, "run-schedule", &known.name, &known.spec).await;
    }
    accepted(app, Ok(answer), Results::Read).await
}

/// Makes up for the ticks of a time of the past, one job at a time.
#[utoipa::path(post, path = "/schedules/{name}/backfill", tag = "schedules", operation_id = "backfillSchedule",
    params(SchedulePath),
    request_body = backfill::BackfillRequest,
    responses(
        (status = 202, description = "The schedule", body = ScheduleDocument),
        (status = 404, description = "There is no such schedule"),
        (status = 409, description = "It is paused, or one is under way"),
        (status = 422, description = "There is no tick in that time, or there are more than a thousand"),
    ))]
pub(crate) async fn start_backfill(
    app: web::Data<App>,
    caller: Caller,
    name: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let bytes = body::json(&request, payload, &app.budgets.requests, MAX_PERIOD).await?;
    let wanted = backfill::read(json::check(&bytes)?).map_err(Problem::violations)?;
    let known = find(&app, &caller, &name).await?;
    may_change(&caller, &known)?;
    let now = app.broker.redis_time().await?;
    let backfill = wanted.of(&known.timing, now).map_err(Problem::violations)?;
    backfilled(app.broker.backfill(&known, Some(backfill)).await.map_err(Problem::in_doubt)?)?;
    record(&app, &caller, "backfill-schedule", &known.name, &known.spec).await;
    Ok(answer(StatusCode::ACCEPTED, find(&app, &caller, &name).await?))
}

/// Stops to make up for ticks. The job that runs stays as it is.
#[utoipa::path(delete, path = "/schedules/{name}/backfill", tag = "schedules", operation_id = "stopBackfill",
    params(SchedulePath),
    responses(
        (status = 204, description = "None is under way any more"),
        (status = 404, description = "There is no such schedule"),
    ))]
pub(crate) async fn stop_backfill(
    app: web::Data<App>,
    caller: Caller,
    name: web::Path<String>,
) -> Answer {
    let known = find(&app, &caller, &name).await?;
    may_change(&caller, &known)?;
    backfilled(app.broker.backfill(&known, None).await.map_err(Problem::in_doubt)?)?;
    Ok(removed())
}

fn backfilled(change: BackfillChange) -> Result<(), Problem> {
    match change {
        BackfillChange::Done => Ok(()),
        BackfillChange::Unknown => Err(no_such_schedule()),
        BackfillChange::OtherVersion => {
            Err(Problem::new(SCHEDULE_CHANGED, "it was changed meanwhile"))
        }
        BackfillChange::Paused => {
            Err(Problem::new(SCHEDULE_PAUSED, "the schedule is paused: resume it first"))
        }
        BackfillChange::UnderWay => {
            let detail = "ticks of it are made up for already: DELETE stops that";
            Err(Problem::new(SCHEDULE_BUSY, detail))
        }
    }
}

fn done(change: ScheduleChange) -> Result<(), Problem> {
    match change {
        ScheduleChange::Done => Ok(()),
        ScheduleChange::Unknown => Err(no_such_schedule()),
        ScheduleChange::OtherVersion => {
            Err(Problem::new(SCHEDULE_CHANGED, "it was changed meanwhile"))
        }
    }
}

async fn record(
    app: &App,
    caller: &Caller,
    action: &str,
    name: &ScheduleName,
    spec: &ScheduleSpec,
) {
    let action = Action::named(action).on_queue(&spec.queue).on_schedule(name);
    action.record(app, caller).await;
}

/// Returns a schedule that the caller may see.
pub(crate) async fn find(
    app: &App,
    caller: &Caller,
    name: &str,
) -> Result<ScheduleRecord, Problem> {
    let name: ScheduleName = name.parse().map_err(|_| no_such_schedule())?;
    let found = app.broker.schedule(&name).await?;
    found.filter(|record| caller.may_use(&record.spec.queue)).ok_or_else(no_such_schedule)
}

/// A schedule is changed by the key that made it, or by one with the scope `admin`.
pub(crate) fn may_change(caller: &Caller, record: &ScheduleRecord) -> Result<(), Problem> {
    let own = match (&record.spec.owner, caller.key_id()) {
        (Some(owner), Some(id)) => owner.id == id.to_string(),
        (None, Some(_)) => false,
        (_, None) => true,
    };
    let may = (own || caller.has(Scope::Admin)) && caller.may_use(&record.spec.queue);
    let detail = "the schedule belongs to another key: only that one, or one with the scope admin, may change it";
    if may { Ok(()) } else { Err(Problem::new(FORBIDDEN, detail)) }
}

fn condition_of(
    request: &HttpRequest,
    known: Option<&ScheduleRecord>,
) -> Result<Condition, Problem> {
    if etag::is_known(request, "") && known.is_some() {
        return Err(condition_failed());
    }
    if etag::is_known(request, "") {
        return Ok(Condition::New);
    }
    match (IfMatch::of(request), known) {
        (None, _) => Ok(Condition::None),
        (Some(_), None) => Err(condition_failed()),
        (Some(IfMatch::Any), Some(_)) => Ok(Condition::Known),
        (Some(IfMatch::Versions(versions)), Some(known)) if versions.contains(&known.version) => {
            Ok(Condition::Version(known.version))
        }
        (Some(IfMatch::Versions(_)), Some(_)) => Err(condition_failed()),
    }
}

pub(crate) fn condition_failed() -> Problem {
    Problem::new(PRECONDITION_FAILED, "the schedule has another version, or there is one or none")
}

fn no_such_schedule() -> Problem {
    Problem::new(NOT_FOUND, "there is no such schedule")
}

fn of_file() -> Problem {
    let detail = "the schedule does not come from a request: DELETE it first";
    Problem::new(SCHEDULE_OF_FILE, detail)
}

fn no_room(job: &crunch_common::broker::NewJob, code: i64) -> Problem {
    let queue = job.queue.clone();
    let error = match (code, &job.options.group) {
        (-3, _) => crunch_common::broker::Error::QueueFull { queue },
        (-4, _) => crunch_common::broker::Error::TooManyQueues { queue },
        (-5, Some(group)) => {
            crunch_common::broker::Error::GroupFull { queue, group: group.clone() }
        }
        _ => crunch_common::broker::Error::Full,
    };
    Problem::in_doubt(error)
}

fn schedule_name(text: &str) -> Result<ScheduleName, Problem> {
    let expected =
        "the name of a schedule is 1 to 64 of a-z 0-9 _ . -, the first a letter or a digit";
    text.parse()
        .map_err(|_| Problem::new(NOT_FOUND, format!("there can be no such schedule: {expected}")))
}

/// The problem of a schedule whose job cannot be made.
fn refused(misfit: Misfit, pointer: &str) -> Problem {
    match misfit {
        Misfit::Passing(problem) | Misfit::Refused(problem) => problem,
        Misfit::Lasting(_, reason) => Problem::violations(vec![Violation::new(pointer, reason)]),
    }
}

fn wrong_timing(wanted: &ScheduleRequest, error: InvalidTiming) -> Problem {
    let pointer = match (error, &wanted.timing.rule) {
        (InvalidTiming::Never, _) => "/cron",
        (InvalidTiming::NoTick, Rule::Cron(_) | Rule::Every(_)) => "/end_at",
    };
    Problem::violations(vec![Violation::new(pointer, error.to_string())])
}

fn answer(status: StatusCode, record: ScheduleRecord) -> HttpResponse {
    let tag = etag::of(record.version);
    let mut response = ok(&ScheduleDocument::new(record));
    *response.status_mut() = status;
    if let Ok(tag) = header::HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
