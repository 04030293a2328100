//! Who may speak for an instance: the principal that registered it, and nobody else (`threats.md` 62).

use std::sync::Arc;

use policies_identity::Caller;
use registry_aws::AwsError;

use crate::http::ecs::error::{access_denied, instance_not_found};
use crate::ids::{InstanceId, TaskId};
use crate::model::Instance;
use crate::state::State;

/// The instance, if the caller is bound to it.
pub(crate) fn bound_instance(
    state: &State,
    caller: &Caller,
    id: &InstanceId,
) -> Result<Arc<Instance>, AwsError> {
    let instance = state.instance(id).ok_or_else(instance_not_found)?;
    if instance.principal != caller.principal_uid() {
        return Err(not_bound(caller));
    }
    Ok(Arc::clone(instance))
}

/// The principal of a host may act on its own instance only; what others may do is for policies to say.
pub(crate) fn own_instance_only(state: &State, caller: &Caller, id: &InstanceId) -> Result<(), AwsError> {
    let bound = state.instance(id).is_some_and(|instance| instance.principal == caller.principal_uid());
    if caller.instance().is_some() && !bound { Err(not_bound(caller)) } else { Ok(()) }
}

/// The instance on which a task is placed, if the caller is bound to it. Nobody else's tasks are known to it, nor those
/// of the principal that its host had before: what it says of them will never count.
pub(crate) fn instance_of_task(state: &State, caller: &Caller, task: &TaskId) -> Option<Arc<Instance>> {
    let instance = state.task(task)?.instance.as_ref()?;
    bound_instance(state, caller, instance).ok()
}

fn not_bound(caller: &Caller) -> AwsError {
    access_denied(format!("User: {} is not the principal of this container instance", caller.arn()))
}
