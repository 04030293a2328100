//! The telemetry connection: the health of containers, at an interval and when it changes.
//!
//! Only health checks of the task definition are told, never an image's own.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use registry_runtime::random_id;
use scheduler_protocol::{
    ContainerHealth, HealthMetadata, PublishHealthRequest, TaskHealth, TelemetryAgentMessage, TelemetryQuery,
};
use tokio_tungstenite::tungstenite::Message;

use super::Session;
use super::backoff::Backoff;
use super::register::VERSION;
use super::socket::{SocketError, open};
use crate::task::state::Phase;

const INTERVAL: Duration = Duration::from_secs(20);
const TASKS_A_FRAME: usize = 10;

/// Keeps the connection for as long as the control connection stands beside it.
pub(super) async fn run(session: &Session) {
    let mut backoff = Backoff::new();
    loop {
        match connected(session, &mut backoff).await {
            Ok(()) => tracing::debug!("the telemetry connection was closed"),
            Err(error) => tracing::debug!(%error, "the telemetry connection ended"),
        }
        backoff.pause().await;
    }
}

async fn connected(session: &Session, backoff: &mut Backoff) -> Result<(), SocketError> {
    let host = &session.host;
    let docker = session.docker_version.as_str();
    let query = TelemetryQuery {
        cluster: host.cluster.clone(),
        container_instance: session.container_instance_arn.clone(),
        ..TelemetryQuery::default()
    };
    let pairs = [
        ("agentVersion", VERSION),
        ("cluster", query.cluster.as_str()),
        ("containerInstance", query.container_instance.as_str()),
        ("dockerVersion", docker),
    ];
    let endpoint = &session.endpoints.telemetry_endpoint;
    let socket = open(endpoint, &pairs, &session.credentials, host).await?;
    backoff.reset();
    let (mut sink, mut stream) = socket.split();
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = host.health_changed.notified() => {}
            frame = stream.next() => match frame {
                None | Some(Ok(Message::Close(_))) => return Ok(()),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(_)) => {
                    sink.flush().await?;
                    continue;
                }
            },
        }
        for frame in frames(session) {
            sink.send(Message::text(frame.encode())).await?;
        }
    }
}

fn frames(session: &Session) -> Vec<TelemetryAgentMessage> {
    let tasks: Vec<TaskHealth> =
        session.manager.tasks().iter().filter_map(|context| health(context)).collect();
    let mut chunks: Vec<Vec<TaskHealth>> = tasks.chunks(TASKS_A_FRAME).map(<[TaskHealth]>::to_vec).collect();
    if chunks.is_empty() {
        chunks.push(Vec::new());
    }
    let last = chunks.len() - 1;
    let message_id = random_id();
    let frames = chunks.into_iter().enumerate().map(|(index, tasks)| {
        let metadata = HealthMetadata {
            cluster: session.host.cluster.clone(),
            container_instance: session.container_instance_arn.clone(),
            message_id: message_id.clone(),
            fin: index == last,
        };
        let timestamp = Some(session.host.clock.now_ms() as f64 / 1000.0);
        TelemetryAgentMessage::Health(PublishHealthRequest { metadata, tasks, timestamp })
    });
    frames.collect()
}

fn health(context: &crate::task::context::TaskContext) -> Option<TaskHealth> {
    let (task, state) = (context.task(), context.state());
    let mut containers = Vec::new();
    for (container, standing) in task.containers.iter().zip(&state.containers) {
        let up = matches!(standing.phase, Phase::Running | Phase::Stopping);
        if container.health_check_type.is_none() || !up {
            continue;
        }
        let since = standing.health_since_ms.or(standing.started_at_ms);
        containers.push(ContainerHealth {
            container_name: container.name.clone(),
            health_status: standing.health.as_str().to_owned(),
            status_since: since.map(|ms| ms as f64 / 1000.0),
            status_message: None,
        });
    }
    (!containers.is_empty()).then(|| TaskHealth {
        task_arn: task.arn.clone(),
        cluster_arn: task.task_cluster_arn.clone(),
        task_definition_family: task.family.clone(),
        task_definition_version: task.version.clone(),
        containers,
    })
}
