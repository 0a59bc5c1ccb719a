//! The names of OpenTelemetry's semantic conventions that are exported, and those of Crunch: the only place that spells
//! them.
//!
//! The conventions for messaging are in development. The version that these names are of is in [`SCHEMA_URL`], which is
//! exported with them.

pub(crate) use opentelemetry_semantic_conventions::SCHEMA_URL;
pub(crate) use opentelemetry_semantic_conventions::attribute::{
    ERROR_TYPE, HTTP_REQUEST_METHOD, HTTP_REQUEST_RESEND_COUNT, HTTP_RESPONSE_STATUS_CODE,
    MESSAGING_BATCH_MESSAGE_COUNT, MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_BODY_SIZE,
    MESSAGING_MESSAGE_ID, MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM,
    SERVER_ADDRESS, SERVER_PORT, SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, URL_FULL,
};
pub(crate) use opentelemetry_semantic_conventions::metric::{
    MESSAGING_CLIENT_CONSUMED_MESSAGES, MESSAGING_CLIENT_OPERATION_DURATION,
    MESSAGING_CLIENT_SENT_MESSAGES, MESSAGING_PROCESS_DURATION,
};

/// The instrumentation scope.
pub(crate) const SCOPE: &str = "crunch";
/// The value of `messaging.system`: the conventions have none for Crunch.
pub(crate) const SYSTEM: &str = "crunch";
/// Name and type of the operation that puts jobs into a queue.
pub(crate) const SEND: &str = "send";
/// Name and type of the operation that runs an attempt.
pub(crate) const PROCESS: &str = "process";

/// The job, where it is not the message itself.
pub(crate) const JOB_ID: &str = "crunch.job.id";
/// The task of a job.
pub(crate) const TASK: &str = "crunch.task";
/// The number of a charged attempt, from 1.
pub(crate) const ATTEMPT: &str = "crunch.attempt";
/// The fencing token of an attempt.
pub(crate) const EPOCH: &str = "crunch.epoch";
/// How an attempt ended: the word that the metrics for Prometheus have.
pub(crate) const OUTCOME: &str = "crunch.outcome";
