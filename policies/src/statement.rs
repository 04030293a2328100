//! One statement, compiled: whom, what and under which conditions it allows or denies.
//!
//! An Allow whose variables have no value never matches; in a Deny such a value equals nothing, so
//! that what is compared with a negated operator is still denied. Neither way a missing key widens
//! what is allowed.

pub(crate) mod read;

use crate::condition::Condition;
use crate::document::Effect;
use crate::evaluate::Prepared;
use crate::pattern::{ActionPattern, ArnPattern, Variable};
use crate::principal::element::{Grant, Names};

#[derive(Debug)]
pub(crate) struct Statement {
    sid: Option<Box<str>>,
    effect: Effect,
    line: u32,
    principal: PrincipalElement,
    actions: Actions,
    resources: Resources,
    conditions: Vec<Condition>,
    /// Variables that an Allow must have values for.
    required: Vec<Variable>,
}

#[derive(Debug)]
enum PrincipalElement {
    /// The policy is attached to the caller.
    Attached,
    Named(Names),
    AllBut(Names),
}

#[derive(Debug)]
struct Actions {
    negated: bool,
    patterns: Vec<ActionPattern>,
}

#[derive(Debug)]
enum Resources {
    /// The resource that the policy belongs to.
    Implied,
    Listed {
        negated: bool,
        patterns: Vec<ArnPattern>,
    },
}

/// Why a statement does not match a request.
#[derive(Debug)]
pub(crate) enum Miss<'a> {
    Action,
    Principal,
    Resource,
    Variable(&'a str),
    Condition(&'a Condition),
}

impl Statement {
    pub(crate) fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    pub(crate) fn effect(&self) -> Effect {
        self.effect
    }

    /// Of the document it was read from, counted from 1.
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    pub(crate) fn actions(&self) -> &[ActionPattern] {
        &self.actions.patterns
    }

    pub(crate) fn actions_are_negated(&self) -> bool {
        self.actions.negated
    }

    /// Whether its action of that number covers the request's; of a NotAction statement, whether all of
    /// them together do.
    pub(crate) fn covers_action_at(&self, number: usize, request: &Prepared<'_>) -> bool {
        if self.actions.negated {
            return self.covers_action(request);
        }
        self.actions.patterns[number].matches(&request.action, request.context)
    }

    /// Whether everything else matches, and how it names the caller (full where policies name nobody).
    pub(crate) fn matches_besides_action(&self, request: &Prepared<'_>) -> Option<Grant> {
        // Cheap and telling questions first.
        if !self.covers_resource(request) {
            return None;
        }
        let grant = self.names_principal(request)?;
        let complete = self.effect == Effect::Deny || self.first_without_value(request).is_none();
        let holds = complete && self.conditions.iter().all(|condition| condition.holds(request.context));
        holds.then_some(grant)
    }

    /// Whether it matches, or what stands against it.
    pub(crate) fn check(&self, request: &Prepared<'_>) -> Result<Grant, Miss<'_>> {
        if !self.covers_action(request) {
            return Err(Miss::Action);
        }
        if let Some(grant) = self.matches_besides_action(request) {
            return Ok(grant);
        }
        if self.names_principal(request).is_none() {
            return Err(Miss::Principal);
        }
        if let Some(variable) = self.first_without_value(request).filter(|_| self.effect == Effect::Allow) {
            return Err(Miss::Variable(&variable.written));
        }
        let failing = self.conditions.iter().find(|condition| !condition.holds(request.context));
        match failing.filter(|_| self.covers_resource(request)) {
            Some(condition) => Err(Miss::Condition(condition)),
            None => Err(Miss::Resource),
        }
    }

    fn covers_action(&self, request: &Prepared<'_>) -> bool {
        let named =
            self.actions.patterns.iter().any(|pattern| pattern.matches(&request.action, request.context));
        named != self.actions.negated
    }

    fn names_principal(&self, request: &Prepared<'_>) -> Option<Grant> {
        let principal = request.principal;
        match (&self.principal, self.effect) {
            (PrincipalElement::Attached, _) => Some(Grant::Full),
            (PrincipalElement::Named(names), Effect::Allow) => names.grant(principal),
            (PrincipalElement::Named(names), Effect::Deny) => names.reaches(principal).then_some(Grant::Full),
            // A permissions boundary makes every NotPrincipal Deny apply, whoever is listed.
            (PrincipalElement::AllBut(names), _) => {
                (request.has_boundary || !names.spares(principal)).then_some(Grant::Full)
            }
        }
    }

    fn first_without_value(&self, request: &Prepared<'_>) -> Option<&Variable> {
        self.required.iter().find(|variable| variable.resolve(request.context).is_none())
    }

    fn covers_resource(&self, request: &Prepared<'_>) -> bool {
        let Resources::Listed { negated, patterns } = &self.resources else { return true };
        let named = patterns.iter().any(|pattern| match (&request.resource, pattern) {
            (_, ArnPattern::All) => true,
            (Some(arn), pattern) => pattern.matches(arn, request.context),
            (None, _) => false,
        });
        named != *negated
    }
}
