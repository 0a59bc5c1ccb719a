//! The schema of schedules, for the OpenAPI document. Nothing is parsed into these types.

use std::collections::BTreeMap;

use utoipa::ToSchema;

use crate::document::words::{MissedWord, OverlapWord};
use crate::submit::{OptionsSchema, WebhookSchema};

/// A schedule; a member that is missing or null has its default. Either `cron` or `every_ms` is required.
#[derive(ToSchema)]
#[schema(as = ScheduleRequest)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct ScheduleSchema {
    #[schema(max_length = 64, pattern = "^[a-z0-9][a-z0-9_.-]*$")]
    task: String,
    /// The payload of each job: any JSON of at most 64 KiB, stored byte by byte. Default null.
    payload: Option<serde_json::Value>,
    /// The options of each job, as in a submission.
    job: Option<ScheduledJobSchema>,
    /// Five fields: minute, hour, day of the month, month, day of the week; or six with seconds first; or `@hourly`, `@daily`,
    /// `@weekly`, `@monthly`, `@yearly`.
    #[schema(max_length = 256)]
    cron: Option<String>,
    /// An interval in milliseconds: at `start_at` and every so often after it; without `start_at`, at the multiples since 1970.
    #[schema(minimum = 1000, maximum = 31_622_400_000u64)]
    every_ms: Option<u64>,
    /// The time zone of `cron`, by its name in the IANA database. Default `UTC`.
    time_zone: Option<String>,
    /// Each tick is due up to this much later, always by the same time for one tick. Default 0.
    #[schema(maximum = 86_400_000u64)]
    jitter_ms: Option<u64>,
    /// No tick is earlier (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    start_at: Option<String>,
    /// No tick is later (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    end_at: Option<String>,
    /// Which missed ticks are made up for. Default `once`.
    #[schema(value_type = Option<MissedWord>)]
    missed: Option<String>,
    /// With `missed` = `all`: how many at most, the newest. Default 100.
    #[schema(minimum = 1, maximum = 1000)]
    missed_at_most: Option<u32>,
    /// With `missed` = `all`: older ones are not made up for. Default a day.
    #[schema(minimum = 1000, maximum = 31_622_400_000u64)]
    missed_within_ms: Option<u64>,
    /// What becomes of a tick while the job of an earlier one has not ended. Default `skip`.
    #[schema(value_type = Option<OverlapWord>)]
    overlap: Option<String>,
}

/// The options of the jobs of a schedule: those of a submission but `delay_ms`, `run_at` and `idempotency_key`.
#[derive(ToSchema)]
#[schema(as = ScheduledJobOptions)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct ScheduledJobSchema {
    #[schema(inline)]
    #[serde(flatten)]
    options: OptionsSchema,
    /// At most 32 labels with values of at most 1 KiB.
    metadata: Option<BTreeMap<String, String>>,
    webhook: Option<WebhookSchema>,
}
