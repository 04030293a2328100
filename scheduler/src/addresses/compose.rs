//! The tasks that take a service's connections, from committed state.

use std::collections::HashMap;

use scheduler_protocol::{ADDRESS_ATTRIBUTE, EndpointTarget, PROXY_ATTRIBUTE, ServiceEndpoints};

use super::settings::Address;
use crate::ids::{InstanceId, TaskId};
use crate::model::{Instance, InstanceStatus, LastStatus, Service, Task};
use crate::state::State;

/// The containers that run, by task, as an instance's agent last said.
pub(super) type Serving = HashMap<TaskId, Vec<String>>;

/// Whether the instance's agent listens for services.
pub(crate) fn listens(instance: &Instance) -> bool {
    instance.status != InstanceStatus::Inactive
        && instance.attributes.iter().any(|attribute| attribute.name == PROXY_ATTRIBUTE)
}

/// The service with every task that runs, is healthy and is to go on running.
pub(super) fn endpoints<'a>(
    state: &State,
    service: &Service,
    address: &Address,
    serving: &dyn Fn(&InstanceId) -> Option<&'a Serving>,
) -> ServiceEndpoints {
    let targets = state.live_tasks_of(&service.key).filter_map(|task| target(state, task, address, serving));
    ServiceEndpoints {
        service_name: service.key.name.to_string(),
        listen_port: address.port,
        proxy_protocol: address.proxy_protocol,
        targets: targets.collect(),
    }
}

fn target<'a>(
    state: &State,
    task: &Task,
    address: &Address,
    serving: &dyn Fn(&InstanceId) -> Option<&'a Serving>,
) -> Option<EndpointTarget> {
    let healthy =
        if task.has_health_check() { task.health() == "HEALTHY" } else { task.health() != "UNHEALTHY" };
    if !task.wants_to_run() || task.last_status != LastStatus::Running || !healthy {
        return None;
    }
    let instance = state.instance(task.instance.as_ref()?)?;
    if instance.lost || instance.status == InstanceStatus::Inactive {
        return None;
    }
    let host =
        instance.all_attributes().find(|attribute| attribute.name == ADDRESS_ATTRIBUTE)?.value.as_ref()?;
    let definition = state.definition(&task.definition)?;
    let chosen = address.choose(&definition.content).ok()?;
    // An agent that has not said yet what runs is believed by its reports alone.
    let says_so = |known: &Serving| {
        known.get(&task.id).is_some_and(|containers| containers.iter().any(|name| name == chosen.container))
    };
    if serving(&instance.id).is_some_and(|known| !says_so(known)) {
        return None;
    }
    let container = task.containers.iter().find(|container| container.name == chosen.container)?;
    let binding = container.state.network_bindings.iter().find(|binding| {
        binding.container_port == Some(chosen.port)
            && binding.protocol.as_deref().is_none_or(|protocol| protocol == "tcp")
    })?;
    Some(EndpointTarget {
        task_id: task.id.to_string(),
        container_name: chosen.container.to_owned(),
        container_port: chosen.port,
        address: host.clone(),
        host_port: binding.host_port?,
    })
}
