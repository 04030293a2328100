//! Join tokens as operators see them: made once, listed without their secret, revoked by id.

use std::time::Duration;

use policies_identity::{Caller, RequestContext};
use registry_aws::AwsError;
use registry_aws::timestamp::epoch_seconds;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::agents::{Invitation, create_token, host_of};
use crate::core::Core;
use crate::http::ecs::error::invalid;
use crate::http::ecs::{Order, PageInput, active_cluster, pick, read};
use crate::ids::{ClusterName, InstanceId};
use crate::model::Attribute;
use crate::store::{Enrolment, JoinToken, Standing, StoreError};

const DEFAULT_LIFE_SECONDS: i64 = 3600;
const LONGEST_LIFE_SECONDS: i64 = 7 * 24 * 3600;
const MOST_USES: i64 = 1000;
const MOST_ATTRIBUTES: usize = 50;
/// Names that agents speak of themselves with, or that Berth gives.
const RESERVED: [&str; 3] = ["ecs.", "com.amazonaws.", "berth."];

/// What an operator fixes for a host.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    cluster: Option<String>,
    availability_zone: Option<String>,
    #[serde(default)]
    attributes: Vec<Attribute>,
    max_cpu: Option<i64>,
    max_memory: Option<i64>,
    /// The instance whose host this is for.
    container_instance: Option<String>,
}

impl Limits {
    /// The limits as a host is bound to them, and the instance that it is to be.
    pub(super) fn check(self, core: &Core) -> Result<(Enrolment, Option<InstanceId>), AwsError> {
        let cluster = core.names.parse_cluster(self.cluster.as_deref())?;
        active_cluster(&core.ledger.read(), &cluster)?;
        let instance = self.container_instance.as_deref();
        let instance = instance.map(|text| core.names.parse_instance(text, &cluster)).transpose()?;
        if let Some(id) = &instance {
            let here = core.ledger.read().instance(id).is_some_and(|found| found.cluster == cluster);
            if !here {
                return Err(crate::http::ecs::error::instance_not_found());
            }
            host_of(core, id)?;
        }
        check_texts(self.availability_zone.as_ref(), &self.attributes)?;
        for (name, bound) in [("maxCpu", self.max_cpu), ("maxMemory", self.max_memory)] {
            if bound.is_some_and(|bound| !(1..=i64::from(i32::MAX)).contains(&bound)) {
                return Err(invalid(format!("{name} must be between 1 and 2147483647.")));
            }
        }
        let enrolment = Enrolment {
            cluster,
            zone: self.availability_zone,
            attributes: self.attributes,
            max_cpu: self.max_cpu,
            max_memory: self.max_memory,
        };
        Ok((enrolment, instance))
    }
}

fn check_texts(zone: Option<&String>, attributes: &[Attribute]) -> Result<(), AwsError> {
    let well_formed = |text: &str| {
        !text.is_empty() && text.len() <= 128 && text.chars().all(|one| one.is_ascii_graphic() || one == ' ')
    };
    let texts = attributes.iter().flat_map(|one| [Some(&one.name), one.value.as_ref()]);
    if texts.chain([zone]).flatten().any(|text| !well_formed(text)) {
        return Err(invalid("Zones and attributes have 1 to 128 printable characters."));
    }
    if attributes.len() > MOST_ATTRIBUTES {
        return Err(invalid(format!("A token fixes at most {MOST_ATTRIBUTES} attributes.")));
    }
    for (place, attribute) in attributes.iter().enumerate() {
        let name = &attribute.name;
        if RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(invalid(format!("The attribute {name} is not for operators to set.")));
        }
        if attributes[..place].iter().any(|earlier| earlier.name == *name) {
            return Err(invalid(format!("The attribute {name} is given twice.")));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateJoinToken {
    #[serde(flatten)]
    limits: Limits,
    expires_in_seconds: Option<i64>,
    uses: Option<i64>,
}

pub(super) async fn create_join_token(
    core: &Core,
    ctx: &RequestContext,
    caller: &Caller,
    input: Value,
) -> Result<Value, AwsError> {
    let request: CreateJoinToken = read(input)?;
    let (enrolment, instance) = request.limits.check(core)?;
    let seconds = request.expires_in_seconds.unwrap_or(DEFAULT_LIFE_SECONDS);
    if !(1..=LONGEST_LIFE_SECONDS).contains(&seconds) {
        return Err(invalid("expiresInSeconds must be between 1 second and 7 days."));
    }
    let uses = request.uses.unwrap_or(1);
    if !(1..=MOST_USES).contains(&uses) {
        return Err(invalid(format!("uses must be between 1 and {MOST_USES}.")));
    }
    if instance.is_some() && uses != 1 {
        return Err(invalid("A token for one container instance is used once."));
    }
    confidential(ctx)?;
    let invitation = Invitation {
        enrolment,
        life: Duration::from_secs(seconds.unsigned_abs()),
        uses,
        instance,
        created_by: caller.arn().to_owned(),
    };
    let (secret, token) = create_token(core, invitation).await?;
    let mut output = render(core, &token, core.clock.now_ms());
    output["token"] = json!(secret);
    if let Some(endpoint) = &core.config.endpoint {
        output["endpoint"] = json!(endpoint);
    }
    Ok(output)
}

/// A secret is answered where nobody on the way can read it.
pub(super) fn confidential(ctx: &RequestContext) -> Result<(), AwsError> {
    if ctx.confidential {
        return Ok(());
    }
    Err(invalid("The answer holds a secret, and is given over TLS or loopback only."))
}

#[derive(Deserialize)]
struct ListJoinTokens {
    cluster: Option<String>,
    #[serde(flatten)]
    page: PageInput,
}

pub(super) async fn list_join_tokens(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: ListJoinTokens = read(input)?;
    let cluster = core.names.parse_cluster(request.cluster.as_deref())?;
    active_cluster(&core.ledger.read(), &cluster)?;
    let tokens = core.store.join_tokens(&cluster).await.map_err(|error| unavailable(&error))?;
    let now_ms = core.clock.now_ms();
    let keyed = tokens
        .iter()
        .map(|token| (format!("{:020}{}", token.created_at, token.hash), render(core, token, now_ms)));
    let (tokens, next) = pick(keyed, Order::Descending, &request.page)?;
    let mut output = Map::from_iter([("joinTokens".to_owned(), json!(tokens))]);
    output.extend(next.map(|next| ("nextToken".to_owned(), json!(next))));
    Ok(Value::Object(output))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RevokeJoinToken {
    cluster: Option<String>,
    join_token_id: String,
}

pub(super) async fn revoke_join_token(core: &Core, input: Value) -> Result<Value, AwsError> {
    let request: RevokeJoinToken = read(input)?;
    let cluster: ClusterName = core.names.parse_cluster(request.cluster.as_deref())?;
    let now_ms = core.clock.now_ms();
    let revoked = core.store.revoke_join_token(&cluster, &request.join_token_id, now_ms).await;
    let token = revoked.map_err(|error| unavailable(&error))?.ok_or_else(|| {
        invalid(format!("The cluster {cluster} has no join token {}.", request.join_token_id))
    })?;
    Ok(json!({ "joinToken": render(core, &token, now_ms) }))
}

fn unavailable(error: &StoreError) -> AwsError {
    tracing::error!(error = %error, "the join tokens could not be read or changed");
    AwsError::server()
}

/// Everything about a token but its secret.
fn render(core: &Core, token: &JoinToken, now_ms: i64) -> Value {
    let enrolment = &token.enrolment;
    let status = match token.standing(now_ms) {
        Standing::Valid => "VALID",
        Standing::Expired => "EXPIRED",
        Standing::Used => "USED",
        Standing::Revoked => "REVOKED",
    };
    let mut output = json!({
        "joinTokenId": token.id(),
        "clusterArn": core.names.cluster(&enrolment.cluster),
        "status": status,
        "createdAt": epoch_seconds(token.created_at),
        "createdBy": token.created_by,
        "expiresAt": epoch_seconds(token.expires_at),
        "uses": token.uses,
        "used": token.used,
        "attributes": enrolment.attributes,
    });
    let instance = token.instance.as_ref().map(|id| json!(core.names.instance(&enrolment.cluster, id)));
    for (name, value) in [
        ("availabilityZone", enrolment.zone.as_ref().map(|zone| json!(zone))),
        ("maxCpu", enrolment.max_cpu.map(|most| json!(most))),
        ("maxMemory", enrolment.max_memory.map(|most| json!(most))),
        ("containerInstanceArn", instance),
    ] {
        if let Some(value) = value {
            output[name] = value;
        }
    }
    output
}
