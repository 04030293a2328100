//! One statement, compiled: whom, what and under which conditions it allows or denies.
//!
//! An Allow whose variables have no value never matches; in a Deny such a value equals nothing, so
//! that what is compared with a negated operator is still denied. Neither way a missing key widens
//! what is allowed.

pub(crate) mod read;

use crate::condition::Condition;
use crate::context::ContextValue;
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

    /// Whether it matches, and how it names the caller (full where policies name nobody).
    pub(crate) fn matches(&self, request: &Prepared<'_>) -> Option<Grant> {
        self.check(request).ok()
    }

    /// As [`Statement::matches`], with the first thing that stands against it.
    pub(crate) fn check(&self, request: &Prepared<'_>) -> Result<Grant, Miss<'_>> {
        if !self.covers_action(request) {
            return Err(Miss::Action);
        }
        let grant = self.names_principal(request).ok_or(Miss::Principal)?;
        if self.effect == Effect::Allow
            && let Some(variable) = self.required.iter().find(|variable| !has_value(variable, request))
        {
            return Err(Miss::Variable(&variable.key));
        }
        if !self.covers_resource(request) {
            return Err(Miss::Resource);
        }
        match self.conditions.iter().find(|condition| !condition.holds(request.context)) {
            Some(condition) => Err(Miss::Condition(condition)),
            None => Ok(grant),
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

fn has_value(variable: &Variable, request: &Prepared<'_>) -> bool {
    match request.context.get_folded(&variable.key) {
        Some(ContextValue::One(_)) => true,
        Some(ContextValue::Many(_)) => false,
        None => variable.default.is_some(),
    }
}
