//! The decision: standing of the credential first, then the policies.

use std::borrow::Cow;
use std::sync::Arc;

use policies::{Context, Named, PolicySet, Request, evaluate};

use registry_types::AccountId;

use super::{Allowed, Denied, globals};
use crate::audit::{Full, Line, Outcome};
use crate::authenticate::LOG_IN;
use crate::caller::{Caller, CallerKind};
use crate::check::{Check, Resource};
use crate::context::RequestContext;
use crate::directory::{Directory, Entity};
use crate::identity::Identity;

/// Which decisions are written to the audit log, and as which operation of an API.
#[derive(Clone, Copy)]
enum Recorded<'a> {
    Always(&'a str),
    IfRefused(&'a str),
    Never,
}

impl Identity {
    /// Whether the caller may do this, by the policies of this moment; writes the audit line.
    ///
    /// `operation` is the API's name of what is being done, for the audit log alone.
    ///
    /// # Errors
    /// [`Denied`], with AWS's message, and a kind that says what the caller can do about it.
    pub fn authorize(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        check: &Check,
    ) -> Result<Allowed, Denied> {
        let directory = self.directory().ok_or_else(Denied::unavailable)?;
        self.decide(&directory, ctx, caller, check, Recorded::Always(operation))
    }

    /// The decision of [`Identity::authorize`] without an audit line, for the filtering of lists.
    ///
    /// # Errors
    /// As [`Identity::authorize`].
    pub fn probe(&self, ctx: &RequestContext, caller: &Caller, check: &Check) -> Result<Allowed, Denied> {
        let directory = self.directory().ok_or_else(Denied::unavailable)?;
        self.decide(&directory, ctx, caller, check, Recorded::Never)
    }

    /// The decision of [`Identity::authorize`] once more, by the snapshot that what follows is done with; writes an
    /// audit line only where it is another one by now.
    pub(crate) fn decide_again(
        &self,
        directory: &Directory,
        ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        check: &Check,
    ) -> Result<Allowed, Denied> {
        self.decide(directory, ctx, caller, check, Recorded::IfRefused(operation))
    }

    /// Writes an audit line. What cannot be recorded is not done.
    pub(crate) fn audit(&self, line: &Line<'_>) -> Result<(), Denied> {
        self.audit_log().record(line).map_err(|Full| Denied::unavailable())
    }

    fn decide(
        &self,
        directory: &Directory,
        ctx: &RequestContext,
        caller: &Caller,
        check: &Check,
        recorded: Recorded<'_>,
    ) -> Result<Allowed, Denied> {
        let audit = |outcome: Outcome<'_>| {
            let is_allowed = matches!(&outcome, Outcome::Decided(decision) if decision.allowed());
            let operation = match recorded {
                Recorded::Always(operation) => operation,
                Recorded::IfRefused(operation) if !is_allowed => operation,
                Recorded::IfRefused(_) | Recorded::Never => return Ok(()),
            };
            self.audit(&Line {
                request: ctx,
                caller: caller.into(),
                operation,
                asked: Some((check.action, check.resource.as_str())),
                outcome,
                generations: (directory.security_generation, directory.file_generation),
            })
        };
        let entity = match self.standing_of(caller, directory) {
            Ok(entity) => entity,
            Err(denied) => {
                audit(Outcome::NotStanding(denied.kind()))?;
                return Err(denied);
            }
        };
        let context = self.context(ctx, caller, entity, check);
        let session = session_policies(caller, directory);
        let resource = resource_policies(check, directory);
        let principal = caller.as_policy_principal();
        let request = Request {
            action: check.action,
            resource: check.resource.as_str(),
            resource_account: self.asked_account(caller, check),
            principal: &principal,
            context: &context,
        };
        let set = PolicySet {
            identity: entity.map_or(&[], |entity| &entity.policies),
            boundary: entity.map_or(&[], |entity| entity.boundary.as_slice()),
            session: session.as_deref(),
            resource: &resource,
            service_control: directory.levels.service_control(caller.account_id()),
            resource_control: directory.levels.resource_control(),
        };
        let decision = evaluate(&request, &set);
        audit(Outcome::Decided(&decision))?;
        if decision.allowed() {
            return Ok(Allowed { generation: directory.security_generation });
        }
        let shown = check.shown.as_deref().unwrap_or_else(|| check.resource.as_str());
        Err(Denied::by_policy(caller.arn(), check.action, shown, decision.reason))
    }

    /// The account that has to allow what is done to its resource.
    fn asked_account<'a>(&'a self, caller: &'a Caller, check: &'a Check) -> &'a str {
        let home = if check.action == LOG_IN { caller.account_id() } else { self.account_id() };
        owner_of(&check.resource).unwrap_or_else(|| home.as_str())
    }

    /// The caller's entry, when every link of its credential's chain is as it was; None for nobody.
    fn standing_of<'a>(
        &self,
        caller: &Caller,
        directory: &'a Directory,
    ) -> Result<Option<&'a Arc<Entity>>, Denied> {
        if caller.is_anonymous() {
            return Ok(None);
        }
        if caller.expires_ms().is_some_and(|expires_ms| expires_ms <= self.now_ms()) {
            return Err(Denied::expired());
        }
        let principal = &caller.principal;
        if !self.holds(directory, &principal.chain) {
            return Err(Denied::revoked());
        }
        // Who has no role yet has no policies either: the role's trust alone decides.
        if caller.kind() == CallerKind::WebIdentity {
            return Ok(None);
        }
        directory.entity(principal.kind, &principal.uid).map(Some).ok_or_else(Denied::revoked)
    }

    fn context(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        entity: Option<&Arc<Entity>>,
        check: &Check,
    ) -> Context {
        let mut context = Context::new();
        globals::fill(&mut context, ctx, caller, entity, self.region().as_str());
        if let Resource::Arn(_) = check.resource {
            let owner = owner_of(&check.resource).unwrap_or_else(|| self.account_id().as_str());
            context.set("aws:ResourceAccount", owner);
        }
        for (key, value) in &check.context {
            context.set(key, value.clone());
        }
        context
    }
}

/// The policies a session was made with; None when it was made without any.
fn session_policies<'a>(caller: &'a Caller, directory: &Directory) -> Option<Cow<'a, [Named]>> {
    let session = caller.principal.session.as_ref()?;
    if session.policy_arns.is_empty() {
        return session.policy.as_ref().map(|policy| Cow::Borrowed(std::slice::from_ref(policy)));
    }
    // A managed policy that is gone grants nothing; the session stays bounded by the rest.
    let managed = session.policy_arns.iter().filter_map(|arn| directory.managed_for_session(arn));
    Some(session.policy.iter().cloned().chain(managed).collect())
}

/// The policy that the resource carries, those that files give to it, and that of its registry.
fn resource_policies<'a>(check: &Check, directory: &'a Directory) -> Cow<'a, [Named]> {
    let of_files = directory.resource_policies(check.resource.as_str());
    if check.resource_policy.is_none() && check.registry_policy.is_none() {
        return Cow::Borrowed(of_files);
    }
    let named = |name: &Arc<str>, policy: &Option<Arc<policies::Policy>>| {
        policy.as_ref().map(|policy| Named { name: Arc::clone(name), policy: Arc::clone(policy) })
    };
    let own = named(own_policy_name(), &check.resource_policy);
    let of_registry = named(registry_policy_name(), &check.registry_policy);
    own.into_iter().chain(of_files.iter().cloned()).chain(of_registry).collect()
}

fn registry_policy_name() -> &'static Arc<str> {
    static NAME: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| "registry policy".into());
    &NAME
}

fn own_policy_name() -> &'static Arc<str> {
    static NAME: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| "resource policy".into());
    &NAME
}

/// The account of a role or user of another account. Everything else belongs to the one account there is.
fn owner_of(resource: &Resource) -> Option<&str> {
    let Resource::Arn(arn) = resource else { return None };
    Some(arn.account()).filter(|account| arn.service() == "iam" && account.parse::<AccountId>().is_ok())
}
