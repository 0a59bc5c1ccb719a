//! The parameters that several routes have, for the OpenAPI document. Nothing is parsed into these types.

use utoipa::IntoParams;

use crate::document::words::SearchWord;

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct JobPath {
    /// The job's id
    id: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct QueuePath {
    /// The queue's name
    queue: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct GroupPath {
    /// The group's name, percent-encoded: 1 to 128 bytes of text without control characters
    #[param(min_length = 1, max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    group: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct SchedulePath {
    /// The schedule's name
    #[param(max_length = 64, pattern = "^[a-z0-9][a-z0-9_.-]*$")]
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct LimitPath {
    /// The limit's name
    #[param(max_length = 64, pattern = "^[a-z0-9][a-z0-9_.-]*$")]
    name: String,
}

/// Which jobs are listed or changed, besides their status.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct JobFilters {
    /// Only jobs of this task
    #[param(pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$")]
    task: Option<String>,
    /// Only jobs of this queue
    #[param(pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$")]
    queue: Option<String>,
    /// Only failed jobs whose error is of this kind: the `id` of an item of `GET /errors`
    #[param(pattern = "^([0-9a-f]{16}|other)$")]
    error: Option<String>,
    /// RFC 3339, inclusive
    #[param(format = DateTime)]
    created_after: Option<String>,
    /// RFC 3339, exclusive
    #[param(format = DateTime)]
    created_before: Option<String>,
    /// Only jobs that ended then or later: RFC 3339, inclusive
    #[param(format = DateTime)]
    finished_after: Option<String>,
    /// Only jobs that ended before: RFC 3339, exclusive
    #[param(format = DateTime)]
    finished_before: Option<String>,
    /// Only jobs with this value of the label `{name}` in their metadata; may be given for several labels
    #[param(rename = "metadata.{name}", max_length = 1024)]
    metadata: Option<String>,
    /// How to find jobs with labels. Default: by an index if the task in `task`, or without it any task, declares the
    /// label as indexed, else by a scan
    #[param(inline, value_type = Option<SearchWord>)]
    search: Option<String>,
}

/// Of a list that is read a page at a time.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct PageQuery {
    /// The size of a page; default 1000
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the previous page
    cursor: Option<String>,
}

/// Of a request that can wait for the end of a job that exists.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct WaitQuery {
    /// Delays the answer until the job has ended, for up to this many seconds, at most 60
    wait: Option<u64>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct WaitHeader {
    /// `wait=N` is the same as the parameter
    #[param(rename = "Prefer")]
    prefer: Option<String>,
}

/// Of a submission.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct SubmissionQuery {
    /// Waits for the job's end for up to this many seconds, at most 60
    #[param(minimum = 0)]
    wait: Option<u64>,
}

/// Of a submission.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct SubmissionHeaders {
    /// `respond-async`, and `wait=N`, which is the same as the parameter
    #[param(rename = "Prefer")]
    prefer: Option<String>,
    /// 1 to 255 visible ASCII characters: a repeated request creates only one job
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 257,
        pattern = r#"^("[!-~]{1,255}"|[!#-~]([!-~]{0,253}[!#-~])?)$"#
    )]
    idempotency_key: Option<String>,
}
