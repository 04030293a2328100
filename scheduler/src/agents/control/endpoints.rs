//! What a control connection tells its agent of the addresses of services, and what it hears of them.
//!
//! Only the newest set is ever sent, at once after each change, and again while no report bears its version.

use std::time::Duration;

use axum::extract::ws::Message;
use registry_aws::AwsError;
use scheduler_protocol as wire;
use scheduler_protocol::PROXY_ATTRIBUTE;
use tokio::time::Instant;

use super::{Over, Session};
use crate::ids::{InstanceId, ServiceKey};
use crate::state::Draft;

/// Without a report for so long, the set is sent again.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far the agent of this connection is behind.
#[derive(Default)]
pub(super) struct Told {
    sent: i64,
    sent_at: Option<Instant>,
    applied: i64,
}

impl Session {
    /// Tells the newest set to an agent that wants it and has not been told.
    pub(super) async fn tell_endpoints(&mut self) -> Result<(), Over> {
        let core = &self.control.core;
        let wants = {
            let state = core.ledger.read();
            let instance = state.instance(&self.control.instance);
            instance.is_some_and(|one| one.attributes.iter().any(|known| known.name == PROXY_ATTRIBUTE))
        };
        if !wants {
            return Ok(());
        }
        let version = core.directory.version(&self.control.cluster);
        let waits = self.told.sent_at.is_some_and(|at| at.elapsed() < PATIENCE);
        if version > 0 && (self.told.applied >= version || (self.told.sent >= version && waits)) {
            return Ok(());
        }
        let (version, frame) = core.directory.message(&self.control.cluster);
        self.told.sent = version;
        self.told.sent_at = Some(Instant::now());
        self.send_frame(Message::Text((*frame).into())).await
    }

    /// Takes what the agent says of the set and of its own tasks.
    pub(super) async fn hear_endpoints(&mut self, report: wire::BerthEndpointsReport) -> Result<(), Over> {
        self.told.applied = self.told.applied.max(report.version);
        let (core, cluster, instance) = (&self.control.core, &self.control.cluster, &self.control.instance);
        let heard = {
            let state = core.ledger.read();
            let heard = core.directory.heard(&state, cluster, instance, &report);
            if heard.changed {
                core.sessions.nudge_all(&state, cluster);
            }
            heard
        };
        for released in &heard.released {
            core.sessions.nudge(released);
        }
        if !heard.events.is_empty() {
            let (ledger, instance) = (core.ledger.clone(), instance.clone());
            tokio::spawn(async move {
                let said = ledger
                    .change(move |draft| {
                        for (service, message) in heard.events {
                            say_once(draft, &service, &instance, message);
                        }
                        Ok::<_, AwsError>(())
                    })
                    .await;
                if let Err(error) = said {
                    tracing::warn!(error = %error, "what an agent cannot listen on could not be noted");
                }
            });
        }
        Ok(())
    }
}

/// Adds an event, unless the newest one about this instance says the same.
fn say_once(draft: &mut Draft<'_>, service: &ServiceKey, instance: &InstanceId, message: String) {
    let about = format!("container-instance {instance})");
    let newest = draft.state().events(service).rev().find(|event| event.message.contains(&about));
    if newest.is_none_or(|event| event.message != message) {
        draft.add_event(service, message);
    }
}
