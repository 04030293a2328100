//! The global condition keys: what every request has, whatever it asks for.

use std::sync::Arc;

use policies::Context;
use registry_aws::timestamp::iso8601;

use crate::caller::{Caller, CallerKind};
use crate::context::RequestContext;
use crate::directory::Entity;

/// Fills in `aws:*` keys about the request and its caller.
pub(super) fn fill(
    context: &mut Context,
    request: &RequestContext,
    caller: &Caller,
    entity: Option<&Arc<Entity>>,
    region: &str,
) {
    let now_s = request.now_ms.div_euclid(1000);
    context.set("aws:CurrentTime", iso8601(now_s * 1000));
    context.set("aws:EpochTime", now_s);
    context.set("aws:RequestedRegion", region);
    context.set("aws:SecureTransport", request.secure_transport);
    context.set("aws:SourceIp", request.source_ip.to_canonical().to_string());
    context.set("aws:ViaAWSService", false);
    context.set("aws:PrincipalIsAWSService", false);
    context.set("aws:userid", caller.user_id());
    if let Some(user_agent) = &request.user_agent {
        context.set("aws:UserAgent", user_agent.as_str());
    }
    match caller.kind() {
        CallerKind::Anonymous => context.set("aws:PrincipalType", "Anonymous"),
        CallerKind::User => {
            context.set("aws:PrincipalType", "User");
            context.set("aws:username", caller.name());
        }
        CallerKind::RoleSession => context.set("aws:PrincipalType", "AssumedRole"),
        CallerKind::WebIdentity => context.set("aws:PrincipalType", "WebIdentityUser"),
    }
    if let Some(identity) = &caller.web_identity {
        context.set("aws:FederatedProvider", &*identity.provider.arn);
    }
    let Some(entity) = entity else { return };
    context.set("aws:PrincipalArn", caller.principal_arn());
    context.set("aws:PrincipalAccount", caller.account_id().as_str());
    for (key, value) in &entity.tags {
        context.set(&format!("aws:PrincipalTag/{key}"), value.as_str());
    }
    let Some(session) = &caller.principal.session else { return };
    context.set("aws:TokenIssueTime", iso8601(session.issued_ms));
    context.set("aws:MultiFactorAuthPresent", false);
    if let Some(provider) = &session.federated_provider {
        context.set("aws:FederatedProvider", &**provider);
    }
    if let Some(source_identity) = &session.source_identity {
        context.set("aws:SourceIdentity", source_identity.as_str());
    }
    // A session's tags stand in for the role's of the same key.
    for (key, value) in &session.tags {
        context.set(&format!("aws:PrincipalTag/{key}"), value.as_str());
    }
}
