//! The decision.
//!
//! Every policy is asked once for its first matching Deny and Allow; then the rules are applied in
//! order: an explicit Deny anywhere wins, then each kind of policy that must allow has to. Inside one
//! account an Allow of the resource may stand in for others, as far as it names the caller; between
//! accounts both sides must allow.

mod services;

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
    /// The permissions boundary; empty when there is none.
    pub boundary: &'a [Named],
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
            has_boundary: !set.boundary.is_empty(),
        }
    }
}

/// Decides. An explicit Deny anywhere wins; without an Allow where one is needed, the answer is no.
pub fn evaluate<'a>(request: &Request<'_>, set: &PolicySet<'a>) -> Decision<'a> {
    evaluate_noting(request, set, &mut |_| {})
}

/// As [`evaluate`]. When the answer is yes, `note` has been told every statement that it rests on: one of
/// each policy that had to allow, in the order in which they are asked.
pub(crate) fn evaluate_noting<'a>(
    request: &Request<'_>,
    set: &PolicySet<'a>,
    note: &mut impl FnMut(StatementRef<'a>),
) -> Decision<'a> {
    let action = ActionBuffer::fold(request.action);
    let prepared = Prepared::new(request, &action, set);
    // Whoever has credentials may always learn whose they are.
    if prepared.action.text() == "sts:getcalleridentity" && *request.principal != Principal::Anonymous {
        return Decision { reason: Reason::Allowed, statement: None };
    }
    match decide(request, set, &prepared, note) {
        Ok(statement) => Decision { reason: Reason::Allowed, statement },
        Err(decision) => decision,
    }
}

fn decide<'a>(
    request: &Request<'_>,
    set: &PolicySet<'a>,
    prepared: &Prepared<'_>,
    note: &mut impl FnMut(StatementRef<'a>),
) -> Result<Option<StatementRef<'a>>, Decision<'a>> {
    let principal = request.principal;
    let (resource_control, service_control) = levels(set, prepared);
    let rcp = ask_levels(resource_control, prepared, note);
    let scp = ask_levels(service_control, prepared, note);
    let resource = ask(set.resource, prepared);
    let identity = ask(set.identity, prepared);
    let boundary = ask(set.boundary, prepared);
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
        from_resource.into_iter().for_each(&mut *note);
        return Ok(from_resource);
    };
    let same_account = account == request.resource_account;
    let on_its_own = resource_kind == PolicyKind::Trust || services::resource_decides(prepared);
    if !same_account || on_its_own {
        require(grant.is_some(), resource_kind)?;
    }
    from_resource.into_iter().for_each(&mut *note);
    // Between accounts the grant of the resource counts for its own side alone.
    let stands_in = if same_account { grant } else { None };
    let mut deciding = from_resource;
    if stands_in < Some(Grant::Identity) {
        if !matches!(principal, Principal::Root { .. }) {
            require(identity.allow.is_some(), PolicyKind::Identity)?;
        }
        let from_identity = identity.allow.map(|(_, statement)| statement);
        from_identity.into_iter().for_each(&mut *note);
        deciding = from_identity.or(from_resource);
    }
    if stands_in < Some(Grant::Full) {
        require(set.boundary.is_empty() || boundary.allow.is_some(), PolicyKind::Boundary)?;
        require(set.session.is_none() || session.allow.is_some(), PolicyKind::Session)?;
        let bounds = [boundary.allow, session.allow].into_iter().flatten();
        bounds.for_each(|(_, statement)| note(statement));
    }
    Ok(deciding)
}

/// Which kind of policy the resource has, or should have had.
fn resource_kind(set: &PolicySet<'_>, prepared: &Prepared<'_>) -> PolicyKind {
    match set.resource.first() {
        Some(named) => named.policy.kind(),
        // Nobody takes a role that trusts nobody, whatever their own policies say.
        None if services::takes_a_role(prepared) => PolicyKind::Trust,
        None => PolicyKind::RepositoryPolicy,
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

/// The levels of resource control and of service control that bear on this request: neither reaches
/// service-linked roles, the former only some services, the latter only callers who belong to an account.
pub(crate) fn levels<'a>(
    set: &PolicySet<'a>,
    prepared: &Prepared<'_>,
) -> (&'a [Vec<Named>], &'a [Vec<Named>]) {
    if matches!(prepared.principal, Principal::RoleSession { service_linked: true, .. }) {
        return (&[], &[]);
    }
    let controlled = !set.resource_control.is_empty() && services::are_resource_controlled(&prepared.action);
    let resource_control = if controlled { set.resource_control } else { &[] };
    let service_control = if prepared.principal.account().is_some() { set.service_control } else { &[] };
    (resource_control, service_control)
}

/// Within a level any policy may allow; every level must.
fn ask_levels<'a>(
    levels: &'a [Vec<Named>],
    prepared: &Prepared<'_>,
    note: &mut impl FnMut(StatementRef<'a>),
) -> Levels<'a> {
    let mut result = Levels { answer: Answer::default(), every_level_allows: true };
    for level in levels {
        let answer = ask(level, prepared);
        result.every_level_allows &= answer.allow.is_some();
        answer.allow.into_iter().for_each(|(_, statement)| note(statement));
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
