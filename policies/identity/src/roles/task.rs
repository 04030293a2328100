//! The roles of tasks: the service assumes them for a task, if their trust policy lets it.
//!
//! The trust policy is asked each time credentials are made, with the task as aws:SourceArn and the
//! account as aws:SourceAccount; what was allowed yesterday counts for nothing.

use policies::{Context, Named, PolicySet, Principal, Request, evaluate};
use registry_aws::timestamp::iso8601;
use registry_types::Arn;
use thiserror::Error;

use super::NewSession;
use crate::audit::{Line, Outcome, Who};
use crate::authenticate::OpenedSession;
use crate::authorize::Denied;
use crate::caller::Caller;
use crate::context::RequestContext;
use crate::credentials::TemporaryCredentials;
use crate::directory::{Directory, Entity};
use crate::error::IdentityError;
use crate::identity::Identity;
use crate::session::Link;

/// The service that assumes the roles of tasks.
const SERVICE: &str = "ecs-tasks.amazonaws.com";
const DURATION_MS: i64 = 6 * 60 * 60 * 1000;

/// A role, and the task it is for.
#[derive(Clone, Copy, Debug)]
pub struct TaskRole<'a> {
    /// The task role or the execution role.
    pub role_arn: &'a Arn,
    pub task_arn: &'a Arn,
}

/// Which tasks there are. Asked whenever something decides that was made for a task.
pub trait LiveTasks: Send + Sync {
    /// Whether the task of this ARN is known and not over.
    fn is_live(&self, task_arn: &str) -> bool;
}

/// Why a task has no credentials.
#[derive(Debug, Error)]
pub enum TaskRoleError {
    /// The role does not exist, or its trust policy does not allow the service.
    #[error(
        "ECS was unable to assume the role '{role}' that was provided for this task. Please verify that the role being passed has the proper trust relationship and permissions"
    )]
    NotTrusted { role: String },
    #[error("no decision is possible at the moment")]
    Unavailable,
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Identity {
    /// From now on credentials of tasks end with their tasks; before, with their time alone. A second call
    /// changes nothing.
    pub fn follow_tasks(&self, tasks: std::sync::Arc<dyn LiveTasks>) {
        let _ = self.inner().tasks.set(tasks);
    }

    /// Whether everything that a credential depends on is as it was.
    pub(crate) fn holds(&self, directory: &Directory, chain: &[Link]) -> bool {
        let live = |arn: &str| self.inner().tasks.get().is_none_or(|tasks| tasks.is_live(arn));
        directory.holds(chain) && chain.iter().all(|link| !matches!(link, Link::Task(arn) if !live(arn)))
    }

    /// Credentials of a role for one task, for six hours or until the task is over.
    ///
    /// # Errors
    /// `NotTrusted` in the words of ECS.
    pub async fn task_credentials(&self, role: TaskRole<'_>) -> Result<TemporaryCredentials, TaskRoleError> {
        self.task_session(role, true)?.credentials().ok_or(TaskRoleError::Unavailable)
    }

    /// The role of tasks that are not there yet as a caller, to ask the gate what may be fetched for them. The ARN is
    /// that of their definition, and no credentials come of it.
    ///
    /// # Errors
    /// As [`Identity::task_credentials`].
    pub fn definition_caller(&self, role: TaskRole<'_>) -> Result<Caller, TaskRoleError> {
        Ok(Caller::new(self.task_session(role, false)?.principal.clone()))
    }

    fn task_session(
        &self,
        task: TaskRole<'_>,
        ends_with_it: bool,
    ) -> Result<std::sync::Arc<OpenedSession>, TaskRoleError> {
        let directory = self.directory().ok_or(TaskRoleError::Unavailable)?;
        let not_trusted = || TaskRoleError::NotTrusted { role: task.role_arn.to_string() };
        let role =
            directory.role_by_arn(task.role_arn.as_str()).filter(|role| role.account == *self.account_id());
        let role = role.ok_or_else(not_trusted)?;
        if !self.service_may_assume(&directory, role, task)? {
            return Err(not_trusted());
        }
        let id = task.task_arn.resource().rsplit('/').next().unwrap_or_default();
        let new = NewSession {
            name: id.chars().map(|letter| if letter == ':' { '-' } else { letter }).take(64).collect(),
            expires_ms: self.now_ms() + DURATION_MS,
            task: ends_with_it.then(|| task.task_arn.as_str().into()),
            ..NewSession::default()
        };
        self.make_session(&directory, role, new)?.map_err(|_| TaskRoleError::Unavailable)
    }

    fn service_may_assume(
        &self,
        directory: &Directory,
        role: &Entity,
        task: TaskRole<'_>,
    ) -> Result<bool, TaskRoleError> {
        let Some(trust) = &role.trust else { return Ok(false) };
        let now_ms = self.now_ms();
        let mut context = Context::new();
        context.set("aws:SourceArn", task.task_arn.as_str());
        context.set("aws:SourceAccount", self.account_id().as_str());
        context.set("aws:PrincipalIsAWSService", true);
        context.set("aws:PrincipalServiceName", SERVICE);
        context.set("aws:CurrentTime", iso8601(now_ms));
        context.set("aws:EpochTime", now_ms.div_euclid(1000));
        context.set("aws:RequestedRegion", self.region().as_str());
        context.set("aws:SecureTransport", true);
        let principal = Principal::Service { name: SERVICE };
        let request = Request {
            action: "sts:AssumeRole",
            resource: &role.arn,
            resource_account: self.account_id().as_str(),
            principal: &principal,
            context: &context,
        };
        let trust = [Named { name: format!("trust policy of {}", role.name).into(), policy: trust.clone() }];
        let resource_control = directory.levels.resource_control();
        let set = PolicySet { resource: &trust, resource_control, ..PolicySet::default() };
        let decision = evaluate(&request, &set);
        let ctx = RequestContext { secure_transport: true, ..RequestContext::local(now_ms) };
        let line = Line {
            request: &ctx,
            caller: Who {
                arn: SERVICE,
                user_id: task.task_arn.as_str(),
                access_key_id: None,
                source_identity: None,
            },
            operation: "AssumeRole",
            asked: Some(("sts:AssumeRole", &role.arn)),
            outcome: Outcome::Decided(&decision),
            generations: (directory.security_generation, directory.file_generation),
        };
        self.audit(&line).map_err(|_: Denied| TaskRoleError::Unavailable)?;
        Ok(decision.allowed())
    }
}
