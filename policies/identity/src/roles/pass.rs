//! iam:PassRole: who gives a role to a service must be allowed to.

use registry_types::Arn;

use crate::check::Check;
use crate::identity::Identity;

impl Identity {
    /// What the caller of an operation must be allowed that hands `role_arn` to `service`, such as
    /// `ecs-tasks.amazonaws.com`.
    pub fn pass_role_check(role_arn: &Arn, service: &str) -> Check {
        Check::on("iam:PassRole", role_arn.clone()).with("iam:PassedToService", service)
    }
}
