//! Whose key a host gets: its own again, when it is known, or that of a new principal.
//!
//! A host is known by a request signed with the key it has, by a token that an operator made for it, or by its
//! machine. The last proves least: it counts only while nobody is connected as that host, and the tasks that
//! were placed there are over, so that no credential of theirs is sent to it.

use policies_identity::{AccessKey, IdentityError};
use registry_aws::AwsError;
use thiserror::Error;

use crate::core::Core;
use crate::ids::{ClusterName, InstanceId};
use crate::model::{Instance, InstanceStatus};
use crate::reconcile::give_up_all;
use crate::state::State;
use crate::store::{Enrolment, JoinToken, StoreError};

const WITHOUT_STATE: &str = "The host joined again without its state";

/// Why a host does not join.
#[derive(Debug, Error)]
pub(super) enum HostError {
    #[error("{0}")]
    Malformed(&'static str),
    /// For the one who asks.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the cluster's state could not be changed: {0}")]
    State(AwsError),
}

impl HostError {
    pub(super) fn refused(message: &str) -> Self {
        Self::Refused(message.to_owned())
    }
}

/// Who joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    New,
    /// A host that has a principal.
    Known {
        principal: String,
        /// Whether it proved that it has its key, or an operator said so.
        trusted: bool,
    },
}

/// The host that a token is for, or that has signed the request.
///
/// # Errors
/// When they are two, or when the token leads out of the host's cluster.
pub(super) async fn known_by_token(
    core: &Core,
    token: &JoinToken,
    proven: Option<String>,
) -> Result<Host, HostError> {
    if let Some(instance) = &token.instance {
        let principal = host_of(core, instance).map_err(|error| HostError::Refused(error.message))?;
        if proven.is_some_and(|proven| proven != principal) {
            return Err(HostError::Refused(format!(
                "The join token is for the container instance {instance}, which is another host than this one."
            )));
        }
        return Ok(Host::Known { principal, trusted: true });
    }
    let Some(principal) = proven else { return Ok(Host::New) };
    let here = core.store.enrolment(&principal).await?;
    let cluster = &token.enrolment.cluster;
    match here.map(|enrolment| enrolment.cluster) {
        Some(here) if here != *cluster => Err(HostError::Refused(format!(
            "The join token is for the cluster {cluster}, and this host belongs to {here}. To move it, revoke its \
             container instance and join with an empty data directory."
        ))),
        Some(_) => Ok(Host::Known { principal, trusted: true }),
        None => Ok(Host::New),
    }
}

/// The host that this machine was before it lost its key.
pub(super) async fn known_by_machine(
    core: &Core,
    cluster: &ClusterName,
    machine: &str,
) -> Result<Host, HostError> {
    let principals = core.store.principals_of_machine(cluster, machine).await?;
    let state = core.ledger.read();
    for principal in principals {
        let Some(instance) = instance_of(&state, &principal) else { continue };
        if instance.connected {
            // Two machines with one machine id, as copies of one disk have.
            tracing::warn!(
                container_instance.id = %instance.id,
                "a host joins as another one, though a connected one has its machine id"
            );
            continue;
        }
        return Ok(Host::Known { principal, trusted: false });
    }
    Ok(Host::New)
}

/// The principal of an instance that joined by a token.
///
/// # Errors
/// InvalidParameterException when the instance is gone, or registered with the key of a user or role.
pub(crate) fn host_of(core: &Core, id: &InstanceId) -> Result<String, AwsError> {
    let state = core.ledger.read();
    let instance = state.instance(id).filter(|instance| instance.status != InstanceStatus::Inactive);
    let instance = instance.ok_or_else(|| {
        AwsError::invalid_parameter(format!("The container instance {id} is not registered."))
    })?;
    instance.host.clone().ok_or_else(|| {
        AwsError::invalid_parameter(format!(
            "The container instance {id} did not join by a token: its key is that of a user or role."
        ))
    })
}

/// Gives a host its key, and binds its principal to what the operator fixed. A key it had is void. Returns the
/// name of the principal too.
pub(super) async fn enrol(
    core: &Core,
    host: &Host,
    enrolment: &Enrolment,
    machine: Option<&str>,
) -> Result<(String, AccessKey), HostError> {
    let now_ms = core.clock.now_ms();
    let Host::Known { principal, trusted } = host else {
        let principal = format!("host-{}", registry_runtime::random_id());
        // The enrolment stands before the key exists: a key that works is always bound.
        core.store.enrol(&principal, enrolment, machine, now_ms).await?;
        let key = core.identity.create_instance_principal(&principal).await?;
        tracing::info!(cluster.name = %enrolment.cluster, principal.name = principal, "a host joined");
        return Ok((principal, key));
    };
    core.store.enrol(principal, enrolment, machine, now_ms).await?;
    let key = core.identity.renew_instance_key(principal).await?;
    let instance = instance_of(&core.ledger.read(), principal).map(|instance| instance.id.clone());
    if let Some(id) = instance {
        core.sessions.close(&id);
        if !trusted {
            let given_up = core.ledger.change(move |draft| {
                give_up_all(draft, &id, WITHOUT_STATE);
                Ok::<_, AwsError>(())
            });
            given_up.await.map_err(HostError::State)?;
        }
    }
    tracing::info!(cluster.name = %enrolment.cluster, principal.name = principal, "a host joined again");
    Ok((principal.clone(), key))
}

/// Makes a key for a host without the exchange, for an agent that does not know it.
///
/// # Errors
/// InvalidParameterException for an instance that joined by no token; the database's.
pub(crate) async fn enrol_directly(
    core: &Core,
    enrolment: &Enrolment,
    instance: Option<&InstanceId>,
) -> Result<AccessKey, AwsError> {
    let host = match instance {
        Some(id) => Host::Known { principal: host_of(core, id)?, trusted: true },
        None => Host::New,
    };
    let enrolled = async {
        core.store.claim_attributes(enrolment).await?;
        enrol(core, &host, enrolment, None).await
    };
    enrolled.await.map(|(_, key)| key).map_err(|error| {
        tracing::error!(error = %error, "a host could not be enrolled");
        AwsError::server()
    })
}

/// The instance that a host's principal has.
fn instance_of<'a>(state: &'a State, principal: &str) -> Option<&'a Instance> {
    let mut instances = state.instances().map(|instance| &**instance);
    instances.find(|one| one.host.as_deref() == Some(principal) && one.status != InstanceStatus::Inactive)
}
