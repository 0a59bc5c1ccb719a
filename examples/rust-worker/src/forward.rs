//! The task `messages.forward`: waits for another system, and decides for each of its replies whether the job is
//! retried.

use std::sync::Arc;

use crunch_worker::schemars::{self, JsonSchema};
use crunch_worker::{JobContext, TaskError};
use serde::{Deserialize, Serialize};

use crate::App;
use crate::gateway::{Message, Reply};

/// Payload of `messages.forward`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Forward {
    /// Who gets the message.
    #[schemars(length(min = 1, max = 200))]
    pub to: String,
    /// The message.
    #[schemars(length(max = 10_000))]
    pub text: String,
}

/// Result of `messages.forward`.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forwarded {
    /// The gateway's number of the message.
    pub number: u64,
}

pub(crate) async fn forward(
    app: Arc<App>,
    job: JobContext,
    input: Forward,
) -> Result<Forwarded, TaskError> {
    // The job may run twice. All its attempts have the same id, by which the gateway recognizes the message.
    let id = job.id().to_string();
    let message = Message { id: &id, to: &input.to, text: &input.text };
    let sending = app.gateway.send(&message);
    let reply = job.cancellation().run_until_cancelled(sending).await;
    // The first `?` ends a job that must stop, the second one retries after an I/O error, as after every other error.
    match reply.ok_or_else(|| TaskError::retryable("stopped"))?? {
        Reply::Accepted(number) => Ok(Forwarded { number }),
        Reply::Busy => {
            Err(TaskError::retryable("the gateway is busy").with_code("gateway_busy".parse()?))
        }
        Reply::UnknownRecipient => {
            let error = TaskError::permanent(format!("there is no recipient {:?}", input.to));
            Err(error.with_code("unknown_recipient".parse()?))
        }
        // Not a fault of the job, and another machine may be allowed: it is tried there, and no attempt is charged.
        Reply::HostNotAllowed => Err(TaskError::machine("the gateway does not know this host")),
    }
}
