//! The ECS API, JSON 1.1: every operation is checked by the gate, then answered in AWS's shapes.

mod agent_side;
mod attributes;
mod checks;
mod clusters;
pub(crate) mod error;
mod input;
mod instances;
mod launch_checks;
mod launching;
mod operation;
mod page;
mod render;
mod service_input;
mod service_output;
mod services;
mod tags;
mod task_definitions;
mod tasks;

pub(crate) use clusters::active_cluster;
pub(crate) use input::{check_tags, read, text};
pub(crate) use instances::deregister;
pub(crate) use page::{Order, PageInput, pick};

use async_trait::async_trait;
use policies_identity::{AwsApi, Caller, Check, RequestContext};
use registry_aws::AwsError;
use serde_json::Value;

use crate::lead::Lead;
use error::unsupported;
pub(crate) use operation::NAMES as OPERATIONS;
use operation::Operation;

pub(crate) struct Ecs {
    lead: Lead,
}

impl Ecs {
    pub(crate) fn new(lead: Lead) -> Self {
        Self { lead }
    }
}

/// Who calls, and under which circumstances.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) ctx: &'a RequestContext,
    pub(crate) caller: &'a Caller,
}

#[async_trait]
impl AwsApi for Ecs {
    fn signing_name(&self) -> &'static str {
        "ecs"
    }

    fn target_prefix(&self) -> &'static str {
        "AmazonEC2ContainerServiceV20141113"
    }

    fn operations(&self) -> &'static [&'static str] {
        OPERATIONS
    }

    async fn checks(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        operation: &str,
        input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        Ok(checks::checks(&*self.lead.core()?, operation, input))
    }

    async fn call(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        input: Value,
    ) -> Result<Value, AwsError> {
        let (core, request) = (&self.lead.core()?, Request { ctx, caller });
        let Some(operation) = Operation::parse(operation) else {
            return Err(unsupported(&format!("the operation {operation}")));
        };
        match operation {
            Operation::CreateCluster => clusters::create_cluster(core, input).await,
            Operation::UpdateCluster | Operation::UpdateClusterSettings => {
                clusters::update_cluster(core, input).await
            }
            Operation::DeleteCluster => clusters::delete_cluster(core, input).await,
            Operation::DescribeClusters => clusters::describe_clusters(core, input),
            Operation::ListClusters => clusters::list_clusters(core, input),
            Operation::RegisterTaskDefinition => {
                task_definitions::register_task_definition(core, request, input).await
            }
            Operation::DescribeTaskDefinition => task_definitions::describe_task_definition(core, input),
            Operation::DeregisterTaskDefinition => {
                task_definitions::deregister_task_definition(core, input).await
            }
            Operation::ListTaskDefinitions => task_definitions::list_task_definitions(core, input),
            Operation::ListTaskDefinitionFamilies => {
                task_definitions::list_task_definition_families(core, input)
            }
            Operation::RunTask => launching::run_task(core, request, input).await,
            Operation::StartTask => launching::start_task(core, request, input).await,
            Operation::StopTask => tasks::stop_task(core, input).await,
            Operation::DescribeTasks => tasks::describe_tasks(core, input),
            Operation::ListTasks => tasks::list_tasks(core, input),
            Operation::CreateService => services::create_service(core, request, input).await,
            Operation::UpdateService => services::update_service(core, request, input).await,
            Operation::DeleteService => services::delete_service(core, input).await,
            Operation::DescribeServices => services::describe_services(core, input),
            Operation::ListServices => services::list_services(core, input),
            Operation::ListContainerInstances => instances::list_container_instances(core, input),
            Operation::DescribeContainerInstances => instances::describe_container_instances(core, input),
            Operation::DeregisterContainerInstance => {
                instances::deregister_container_instance(core, request, input).await
            }
            Operation::UpdateContainerInstancesState => {
                instances::update_container_instances_state(core, request, input).await
            }
            Operation::PutAttributes => attributes::put_attributes(core, request, input).await,
            Operation::DeleteAttributes => attributes::delete_attributes(core, request, input).await,
            Operation::ListAttributes => attributes::list_attributes(core, input),
            Operation::TagResource => tags::tag_resource(core, input).await,
            Operation::UntagResource => tags::untag_resource(core, input).await,
            Operation::ListTagsForResource => tags::list_tags_for_resource(core, input),
            Operation::DiscoverPollEndpoint => agent_side::discover_poll_endpoint(core, request),
            Operation::RegisterContainerInstance => {
                agent_side::register_container_instance(core, request, input).await
            }
            Operation::SubmitTaskStateChange => {
                agent_side::submit_task_state_change(core, request, input).await
            }
            Operation::SubmitContainerStateChange => {
                agent_side::submit_container_state_change(core, request, input).await
            }
            Operation::SubmitAttachmentStateChanges => agent_side::submit_attachment_state_changes(),
        }
    }
}
