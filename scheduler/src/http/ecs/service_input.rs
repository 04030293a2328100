//! What CreateService and UpdateService take, checked member by member.

use registry_aws::AwsError;
use serde::Deserialize;
use serde_json::Value;

use super::error::{invalid, unsupported};
use crate::model::{
    DeploymentConfiguration, PlacementConstraint, PlacementStrategy, SchedulingStrategy, Tag,
};
use crate::reconcile::{check_constraints, strategies};

/// Both requests: UpdateService has `service` in place of `serviceName`, and leaves out what is not to change.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceInput {
    pub(super) cluster: Option<String>,
    pub(super) service_name: Option<String>,
    pub(super) service: Option<String>,
    pub(super) task_definition: Option<String>,
    pub(super) desired_count: Option<i64>,
    pub(super) client_token: Option<String>,
    pub(super) launch_type: Option<String>,
    pub(super) scheduling_strategy: Option<String>,
    pub(super) deployment_configuration: Option<DeploymentConfiguration>,
    pub(super) placement_constraints: Option<Vec<PlacementConstraint>>,
    pub(super) placement_strategy: Option<Vec<PlacementStrategy>>,
    pub(super) health_check_grace_period_seconds: Option<i64>,
    pub(super) propagate_tags: Option<String>,
    #[serde(rename = "enableECSManagedTags")]
    pub(super) enable_managed_tags: Option<bool>,
    pub(super) enable_execute_command: Option<bool>,
    pub(super) availability_zone_rebalancing: Option<String>,
    pub(super) force_new_deployment: bool,
    pub(super) platform_version: Option<String>,
    pub(super) network_configuration: Option<Value>,
    pub(super) tags: Vec<Tag>,
    load_balancers: Vec<Value>,
    service_registries: Vec<Value>,
    capacity_provider_strategy: Vec<Value>,
    volume_configurations: Vec<Value>,
    vpc_lattice_configurations: Vec<Value>,
    service_connect_configuration: Option<Value>,
    deployment_controller: Option<DeploymentController>,
    role: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DeploymentController {
    #[serde(rename = "type")]
    kind: String,
}

impl ServiceInput {
    pub(super) fn strategy(&self) -> Result<SchedulingStrategy, AwsError> {
        match self.scheduling_strategy.as_deref() {
            None | Some("REPLICA") => Ok(SchedulingStrategy::Replica),
            Some("DAEMON") => Ok(SchedulingStrategy::Daemon),
            Some(other) => Err(invalid(format!("Invalid scheduling strategy: {other}."))),
        }
    }

    /// Everything that can be told without looking at what exists; not the deployment configuration, of which an update
    /// may name a part.
    pub(super) fn check(&self, strategy: SchedulingStrategy) -> Result<(), AwsError> {
        self.check_supported()?;
        if self.desired_count.is_some_and(|count| !(0..=5000).contains(&count)) {
            return Err(invalid("The desired count must be between 0 and 5000."));
        }
        if strategy == SchedulingStrategy::Daemon {
            if self.desired_count.is_some() {
                return Err(invalid("The daemon scheduling strategy does not support a desired count."));
            }
            if self.placement_strategy.as_ref().is_some_and(|list| !list.is_empty()) {
                return Err(invalid("The daemon scheduling strategy does not support placement strategies."));
            }
        }
        if self.client_token.as_ref().is_some_and(|token| token.is_empty() || token.len() > 36) {
            return Err(invalid("clientToken has 1 to 36 characters."));
        }
        one_of("propagateTags", self.propagate_tags.as_deref(), &["TASK_DEFINITION", "SERVICE", "NONE"])?;
        one_of(
            "availabilityZoneRebalancing",
            self.availability_zone_rebalancing.as_deref(),
            &["ENABLED", "DISABLED"],
        )?;
        if self
            .health_check_grace_period_seconds
            .is_some_and(|seconds| !(0..=i64::from(i32::MAX)).contains(&seconds))
        {
            return Err(invalid("healthCheckGracePeriodSeconds must not be negative."));
        }
        check_constraints(self.placement_constraints.as_deref().unwrap_or_default())?;
        strategies(self.placement_strategy.as_deref().unwrap_or_default()).map(drop)
    }

    fn check_supported(&self) -> Result<(), AwsError> {
        match self.launch_type.as_deref() {
            None | Some("EC2" | "EXTERNAL") => {}
            Some(other) => return Err(unsupported(&format!("the launch type {other}"))),
        }
        let lists = [
            ("load balancers", &self.load_balancers),
            ("service registries", &self.service_registries),
            ("capacity providers", &self.capacity_provider_strategy),
            ("volumes that are configured at launch", &self.volume_configurations),
            ("VPC Lattice", &self.vpc_lattice_configurations),
        ];
        if let Some((what, _)) = lists.into_iter().find(|(_, list)| !list.is_empty()) {
            return Err(unsupported(what));
        }
        let connect =
            self.service_connect_configuration.as_ref().and_then(|connect| connect["enabled"].as_bool());
        if connect == Some(true) {
            return Err(unsupported("Service Connect"));
        }
        if let Some(controller) =
            self.deployment_controller.as_ref().filter(|controller| controller.kind != "ECS")
        {
            return Err(unsupported(&format!("the deployment controller {}", controller.kind)));
        }
        if self.role.is_some() {
            return Err(invalid("A role is only for services with load balancers."));
        }
        Ok(())
    }
}

/// Checks the whole configuration of a service, as it is to be.
pub(super) fn check_configuration(
    configuration: &DeploymentConfiguration,
    strategy: SchedulingStrategy,
) -> Result<(), AwsError> {
    if let Some(other) = configuration.strategy.as_deref().filter(|strategy| *strategy != "ROLLING") {
        return Err(unsupported(&format!("the deployment strategy {other}")));
    }
    if !configuration.lifecycle_hooks.is_empty() {
        return Err(unsupported("lifecycle hooks of deployments"));
    }
    let refused = [
        ("linear deployments", &configuration.linear_configuration),
        ("canary deployments", &configuration.canary_configuration),
        ("early success criteria of deployments", &configuration.early_success_criteria),
    ];
    if let Some((what, _)) = refused.into_iter().find(|(_, member)| member.is_some()) {
        return Err(unsupported(what));
    }
    let breaker = configuration.deployment_circuit_breaker;
    let threshold = breaker.and_then(|breaker| breaker.threshold_configuration);
    if threshold.is_some_and(|threshold| !(1..=i64::from(i32::MAX)).contains(&threshold.value)) {
        return Err(invalid("The value of a thresholdConfiguration must be at least 1."));
    }
    let alarms = configuration.alarms.as_ref().and_then(|alarms| alarms["enable"].as_bool());
    if alarms == Some(true) {
        return Err(unsupported("deployment alarms"));
    }
    let (minimum, maximum) = match strategy {
        SchedulingStrategy::Replica => (
            configuration.minimum_healthy_percent.unwrap_or(100),
            configuration.maximum_percent.unwrap_or(200),
        ),
        SchedulingStrategy::Daemon => {
            if configuration.maximum_percent.is_some_and(|percent| percent != 100) {
                return Err(invalid("The daemon scheduling strategy supports only maximumPercent 100."));
            }
            (configuration.minimum_healthy_percent.unwrap_or(0), 100)
        }
    };
    if !(0..=100).contains(&minimum) {
        return Err(invalid("minimumHealthyPercent must be between 0 and 100."));
    }
    if !(100..=200).contains(&maximum) {
        return Err(invalid("maximumPercent must be between 100 and 200."));
    }
    // Then no task could ever be stopped or started.
    if minimum == 100 && maximum == 100 && strategy == SchedulingStrategy::Replica {
        return Err(invalid(
            "Both values maximumPercent and minimumHealthyPercent cannot be 100 as this will block deployments.",
        ));
    }
    Ok(())
}

fn one_of(member: &str, value: Option<&str>, known: &[&str]) -> Result<(), AwsError> {
    match value {
        Some(value) if !known.contains(&value) => {
            Err(invalid(format!("Invalid value '{value}' for {member}: one of {}.", known.join(", "))))
        }
        _ => Ok(()),
    }
}
