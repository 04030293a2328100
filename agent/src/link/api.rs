//! The operations of the ECS API that an agent calls.
//!
//! A report is repeated until it was heard: a scheduler that is away loses none, and one that comes back hears
//! them at once.

use std::time::Duration;

use async_trait::async_trait;
use registry_aws::{Client, ClientError};
use scheduler_protocol::{
    DiscoverPollEndpointRequest, DiscoverPollEndpointResponse, RegisterContainerInstanceRequest,
    RegisterContainerInstanceResponse, SubmitTaskStateChangeRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, Semaphore};

use crate::join::describe;
use crate::link::backoff::Backoff;
use crate::task::Reporter;

pub(super) const TARGET: &str = "AmazonEC2ContainerServiceV20141113";
const SERVICE: &str = "ecs";
/// Reports under way at once.
const SUBMISSIONS: usize = 10;

pub(crate) struct Api {
    client: Client,
    submissions: Semaphore,
    /// The scheduler has just been reached: whoever waits to repeat a report need not wait longer.
    reached: Notify,
}

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{code}: {message}")]
    Refused { code: String, message: String },
    #[error("{0}")]
    Away(String),
}

impl Api {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, submissions: Semaphore::new(SUBMISSIONS), reached: Notify::new() }
    }

    pub(super) async fn register(
        &self,
        request: &RegisterContainerInstanceRequest,
    ) -> Result<RegisterContainerInstanceResponse, ApiError> {
        self.call("RegisterContainerInstance", request).await
    }

    pub(super) async fn discover(
        &self,
        request: &DiscoverPollEndpointRequest,
    ) -> Result<DiscoverPollEndpointResponse, ApiError> {
        self.call("DiscoverPollEndpoint", request).await
    }

    pub(super) fn connected(&self) {
        self.reached.notify_waiters();
    }

    async fn call<T: DeserializeOwned>(
        &self,
        operation: &str,
        input: &impl Serialize,
    ) -> Result<T, ApiError> {
        let input = serde_json::to_value(input).expect("messages hold nothing that JSON cannot write");
        let answer =
            self.client.call(SERVICE, TARGET, operation, &input).await.map_err(|error| match error {
                ClientError::Service(error) if error.status < 500 => {
                    ApiError::Refused { code: error.code.into_owned(), message: error.message }
                }
                other => ApiError::Away(describe(&other)),
            })?;
        serde_json::from_value(answer)
            .map_err(|error| ApiError::Away(format!("the answer is malformed: {error}")))
    }

    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.reached.notified() => {}
        }
    }
}

#[async_trait]
impl Reporter for Api {
    async fn submit(&self, change: &SubmitTaskStateChangeRequest) {
        let mut backoff = Backoff::of_submissions();
        loop {
            let answer: Result<serde_json::Value, ApiError> = {
                let _place = self.submissions.acquire().await;
                self.call("SubmitTaskStateChange", change).await
            };
            match answer {
                Ok(_) => return,
                Err(ApiError::Refused { code, message })
                    if matches!(code.as_str(), "InvalidParameterException" | "ClientException") =>
                {
                    tracing::warn!(
                        task.arn = change.task,
                        task.status = change.status,
                        code,
                        message,
                        "the scheduler refuses a report for good"
                    );
                    return;
                }
                Err(error) => {
                    tracing::debug!(task.arn = change.task, %error, "a report was not heard and is repeated");
                }
            }
            self.pause(backoff.next()).await;
        }
    }
}
