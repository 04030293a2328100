//! The decision.
//!
//! Every policy is asked once for its first matching Deny and Allow; then the rules are applied in
//! order: an explicit Deny anywhere wins, then each kind of policy that must allow has to. Inside one
//! account an Allow of the resource may stand in for others, as far as it names the caller; between
//! accounts both sides must allow.

use crate::context::Context;
use crate::document::{Matches, Named, PolicyKind};
use crate::pattern::{ActionBuffer, FoldedAction, SplitArn};
use crate::principal::Principal;
use crate::principal::element::Grant;

/// What is asked. `action` is `service:Operation`; `resource` an ARN, or `*` for an action that has no
/// resource; `resource_account` the account that owns it (with `*`, the account that is asked).
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub action: &'a str,
    pub resource: &'a str,
    pub resource_account: &'a str,
    pub principal: &'a Principal<'a>,
    pub context: &'a Context,
}

/// Everything that bears on a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct PolicySet<'a> {
    /// Of the user and its groups, or of the role.
    pub identity: &'a [Named],
    pub boundary: Option<&'a Named>,
    /// Session policies; `None` when the session was made without any. They never grant by themselves.
    pub session: Option<&'a [Named]>,
    /// Repository, registry or trust policy of the resource.
    pub resource: &'a [Named],
    /// Service control policies of the principal's account, one entry for each level from the root of
    /// the organisation down to the account. Empty: no organisation, or its management account.
    pub service_control: &'a [Vec<Named>],
    /// Resource control policies of the resource's account, likewise.
    pub resource_control: &'a [Vec<Named>],
}

/// Why the answer is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    Allowed,
    /// A statement with Effect Deny matched, in a policy of this kind.
    ExplicitDeny(PolicyKind),
    /// No statement of a policy of this kind allowed it, and one had to.
    ImplicitDeny(PolicyKind),
}

/// The statement that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementRef<'a> {
    pub policy: &'a str,
    pub kind: PolicyKind,
    pub sid: Option<&'a str>,
    /// Counted from 0.
    pub index: usize,
    /// Where it begins in the text of the policy, counted from 1.
    pub line: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    pub reason: Reason,
    /// Present on Allowed (but where no policy is asked: root, and GetCallerIdentity) and ExplicitDeny.
    pub statement: Option<StatementRef<'a>>,
}

impl Decision<'_> {
    pub fn allowed(&self) -> bool {
        self.reason == Reason::Allowed
    }
}

/// Services that resource control policies reach, as far as Berth has them.
const RESOURCE_CONTROLLED: [&str; 4] = ["ecr", "logs", "secretsmanager", "sts"];

/// A request, made ready for comparisons.
pub(crate) struct Prepared<'a> {
    pub(crate) action: FoldedAction<'a>,
    /// None for `*`: only a pattern `*` matches it.
    pub(crate) resource: Option<SplitArn<'a>>,
    pub(crate) principal: &'a Principal<'a>,
    pub(crate) context: &'a Context,
    pub(crate) has_boundary: bool,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(request: &Request<'a>, action: &'a ActionBuffer, set: &PolicySet<'_>) -> Self {
        Prepared {
            action: FoldedAction::of(action),
            resource: SplitArn::split(request.resource),
            principal: request.principal,
            context: request.context,
            has_boundary: set.boundary.is_some(),
        }
    }
}

/// Decides. An explicit Deny anywhere wins; without an Allow where one is needed, the answer is no.
pub fn evaluate<'a>(request: &Request<'_>, set: &PolicySet<'a>) -> Decision<'a> {
    let action = ActionBuffer::fold(request.action);
    let prepared = Prepared::new(request, &action, set);
    // Whoever has credentials may always learn whose they are.
    if prepared.action.text() == "sts:getcalleridentity" && *request.principal != Principal::Anonymous {
        return Decision { reason: Reason::Allowed, statement: None };
    }
    match decide(request, set, &prepared) {
        Ok(statement) => Decision { reason: Reason::Allowed, statement },
        Err(decision) => decision,
    }
}

fn decide<'a>(
    request: &Request<'_>,
    set: &PolicySet<'a>,
    prepared: &Prepared<'_>,
) -> Result<Option<StatementRef<'a>>, Decision<'a>> {
    let principal = request.principal;
    let service_linked = matches!(principal, Principal::RoleSession { service_linked: true, .. });
    let no_levels: &[Vec<Named>] = &[];
    let resource_controlled = !service_linked && RESOURCE_CONTROLLED.contains(&prepared.action.service());
    let rcp = ask_levels(if resource_controlled { set.resource_control } else { no_levels }, prepared);
    let scp = ask_levels(if service_linked { no_levels } else { set.service_control }, prepared);
    let resource = ask(set.resource, prepared);
    let identity = ask(set.identity, prepared);
    let boundary = ask(set.boundary.map_or(&[], std::slice::from_ref), prepared);
    let session = ask(set.session.unwrap_or_default(), prepared);

    for answer in [rcp.answer, scp.answer, resource, identity, boundary, session] {
        if let Some(statement) = answer.deny {
            let reason = Reason::ExplicitDeny(statement.kind);
            return Err(Decision { reason, statement: Some(statement) });
        }
    }
    let require = |allowed: bool, kind: PolicyKind| {
        if allowed { Ok(()) } else { Err(Decision { reason: Reason::ImplicitDeny(kind), statement: None }) }
    };
    require(rcp.every_level_allows, PolicyKind::ResourceControl)?;
    require(scp.every_level_allows, PolicyKind::ServiceControl)?;

    let grant = resource.allow.map(|(grant, _)| grant);
    let from_resource = resource.allow.map(|(_, statement)| statement);
    let resource_kind = resource_kind(set, prepared);
    let Some(account) = principal.account() else {
        require(grant.is_some(), resource_kind)?;
        return Ok(from_resource);
    };
    let same_account = account == request.resource_account;
    if !same_account || resource_kind == PolicyKind::Trust {
        require(grant.is_some(), resource_kind)?;
    }
    // Between accounts the grant of the resource counts for its own side alone.
    let stands_in = if same_account { grant } else { None };
    let mut deciding = from_resource;
    if stands_in < Some(Grant::Identity) {
        if !matches!(principal, Principal::Root { .. }) {
            require(identity.allow.is_some(), PolicyKind::Identity)?;
        }
        deciding = identity.allow.map(|(_, statement)| statement).or(from_resource);
    }
    if stands_in < Some(Grant::Full) {
        require(set.boundary.is_none() || boundary.allow.is_some(), PolicyKind::Boundary)?;
        require(set.session.is_none() || session.allow.is_some(), PolicyKind::Session)?;
    }
    Ok(deciding)
}

/// Which kind of policy the resource has, or should have had.
fn resource_kind(set: &PolicySet<'_>, prepared: &Prepared<'_>) -> PolicyKind {
    match set.resource.first() {
        // Nobody takes a role that trusts nobody, whatever their own policies say.
        None if prepared.action.text().starts_with("sts:assumerole") => PolicyKind::Trust,
        None => PolicyKind::RepositoryPolicy,
        Some(named) => named.policy.kind(),
    }
}

/// What a group of policies says.
#[derive(Clone, Copy, Default)]
struct Answer<'a> {
    deny: Option<StatementRef<'a>>,
    allow: Option<(Grant, StatementRef<'a>)>,
}

struct Levels<'a> {
    answer: Answer<'a>,
    every_level_allows: bool,
}

fn ask<'a>(policies: &'a [Named], prepared: &Prepared<'_>) -> Answer<'a> {
    let mut answer = Answer::default();
    for named in policies {
        let Matches { deny, allow } = named.policy.index().matches(named.policy.statements(), prepared);
        if let Some(index) = deny {
            answer.deny = Some(statement_ref(named, index));
            return answer;
        }
        if let Some((grant, index)) = allow
            && answer.allow.is_none_or(|(known, _)| grant > known)
        {
            answer.allow = Some((grant, statement_ref(named, index)));
        }
    }
    answer
}

/// Within a level any policy may allow; every level must.
fn ask_levels<'a>(levels: &'a [Vec<Named>], prepared: &Prepared<'_>) -> Levels<'a> {
    let mut result = Levels { answer: Answer::default(), every_level_allows: true };
    for level in levels {
        let answer = ask(level, prepared);
        result.every_level_allows &= answer.allow.is_some();
        if answer.deny.is_some() {
            result.answer = answer;
            return result;
        }
    }
    result
}

pub(crate) fn statement_ref(named: &Named, index: usize) -> StatementRef<'_> {
    let statement = &named.policy.statements()[index];
    StatementRef {
        policy: &named.name,
        kind: named.policy.kind(),
        sid: statement.sid(),
        index,
        line: statement.line(),
    }
}
