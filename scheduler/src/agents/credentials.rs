//! Credentials of a task's roles, made when they are sent and never kept.

use policies_identity::{TaskRole, TaskRoleError};
use registry_aws::timestamp::iso8601;
use registry_types::Arn;
use scheduler_protocol::{RoleCredentials, RoleType};

use super::payload::TaskCredentials;
use crate::core::Core;
use crate::model::Task;

/// Fresh credentials and when they expire.
pub(crate) struct Fresh {
    pub(crate) credentials: RoleCredentials,
    pub(crate) expires_ms: i64,
}

/// Credentials of both roles of a task, and the earlier time at which one of them expires.
///
/// # Errors
/// A role that does not exist, or does not trust the tasks of this account.
pub(crate) async fn of_task(
    core: &Core,
    task: &Task,
) -> Result<(TaskCredentials, Option<i64>), TaskRoleError> {
    let application = of_role(core, task, RoleType::TaskApplication).await?;
    let execution = of_role(core, task, RoleType::TaskExecution).await?;
    let expires = [&application, &execution].into_iter().flatten().map(|fresh| fresh.expires_ms).min();
    let credentials = TaskCredentials {
        task: application.map(|fresh| fresh.credentials),
        execution: execution.map(|fresh| fresh.credentials),
    };
    Ok((credentials, expires))
}

/// Credentials of one role; None for a task without it.
///
/// # Errors
/// As [`of_task`].
pub(crate) async fn of_role(
    core: &Core,
    task: &Task,
    kind: RoleType,
) -> Result<Option<Fresh>, TaskRoleError> {
    let role = match kind {
        RoleType::TaskApplication => &task.task_role,
        RoleType::TaskExecution => &task.execution_role,
    };
    let Some(role) = role else { return Ok(None) };
    let role_arn: Arn = role.parse().map_err(|_| TaskRoleError::NotTrusted { role: role.clone() })?;
    let task_arn = core.names.task(&task.cluster, &task.id);
    let made = core.identity.task_credentials(TaskRole { role_arn: &role_arn, task_arn: &task_arn }).await?;
    Ok(Some(Fresh {
        credentials: RoleCredentials {
            credentials_id: credentials_id(core, task, kind),
            role_arn: role.clone(),
            access_key_id: made.access_key_id,
            secret_access_key: made.secret_access_key.expose().to_owned(),
            session_token: made.session_token.expose().to_owned(),
            expiration: iso8601(made.expires_ms),
        },
        expires_ms: made.expires_ms,
    }))
}

/// 256 bits that stay the same for a task's role, so that the task's URL stays; derived, not stored.
fn credentials_id(core: &Core, task: &Task, kind: RoleType) -> String {
    let kind = match kind {
        RoleType::TaskApplication => "application",
        RoleType::TaskExecution => "execution",
    };
    hex::encode(core.sealer.derive(&format!("scheduler/credentials-id/{kind}/{}", task.id)).expose())
}
