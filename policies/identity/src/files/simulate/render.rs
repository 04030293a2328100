//! The answer in words.

use std::fmt::Write;

use policies::{PolicyKind, Principal, Reason, Verdict};

use super::{Simulation, StatementReport};

/// What one statement said.
pub(super) fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Matches => "matches".to_owned(),
        Verdict::MatchesAccountOnly => {
            "matches, but names only the account: identity policies decide".to_owned()
        }
        Verdict::OtherAction => "speaks of other actions".to_owned(),
        Verdict::OtherPrincipal => "speaks of other principals".to_owned(),
        Verdict::OtherResource => "speaks of other resources".to_owned(),
        Verdict::NoValue { variable } => format!("uses ${{{variable}}}, which has no single value here"),
        Verdict::ConditionFails { condition, key, found: None } => {
            format!("needs {condition}, and {key} is missing")
        }
        Verdict::ConditionFails { condition, key, found: Some(values) } => {
            format!("needs {condition}, and {key} is {}", values.join(", "))
        }
    }
}

/// Why the answer is what it is, in one sentence.
pub(super) fn because(
    principal: &Principal<'_>,
    reason: Reason,
    decided_by: Option<&StatementReport>,
) -> String {
    match (reason, decided_by) {
        (Reason::Allowed, Some(statement)) => format!("{} allows it", place(statement)),
        (Reason::Allowed, None) if matches!(principal, Principal::Root { .. }) => {
            "root of the account needs no policy".to_owned()
        }
        (Reason::Allowed, None) => "it is always allowed".to_owned(),
        (Reason::ExplicitDeny(_), Some(statement)) => {
            format!("{} denies it, and a Deny always wins", place(statement))
        }
        (Reason::ExplicitDeny(kind), None) => format!("{} denies it", kind.described()),
        (Reason::ImplicitDeny(kind), _) => implicit(principal, kind).to_owned(),
    }
}

fn implicit(principal: &Principal<'_>, kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Identity => "no policy of the principal or its groups allows it",
        PolicyKind::Boundary => "the permissions boundary does not allow it",
        PolicyKind::Session => "the session policy does not allow it",
        PolicyKind::Trust => "the trust policy of the role does not allow this principal to take it",
        PolicyKind::RepositoryPolicy | PolicyKind::RegistryPolicy | PolicyKind::ResourcePolicy
            if principal.account().is_none() =>
        {
            "the resource has no policy that allows it, and this principal has no other"
        }
        PolicyKind::RepositoryPolicy | PolicyKind::RegistryPolicy | PolicyKind::ResourcePolicy => {
            "the resource is of another account, and its policy does not allow it"
        }
        PolicyKind::ServiceControl => "a level of service control policies does not allow it",
        PolicyKind::ResourceControl => "a level of resource control policies does not allow it",
    }
}

/// `policies/push.json:12 (Sid Push)`
fn place(statement: &StatementReport) -> String {
    let file = statement.file.as_deref().unwrap_or(&statement.policy);
    match &statement.sid {
        Some(sid) => format!("{file}:{} (Sid {sid})", statement.line),
        None => format!("{file}:{} (statement {})", statement.line, statement.index + 1),
    }
}

impl Simulation {
    /// Several lines for people, without a line break at the end.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let answer = match self.decision {
            "allowed" => "ALLOWED",
            "explicitDeny" => "DENIED by a statement",
            _ => "DENIED: nothing allows it",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{answer}");
        let _ = writeln!(
            text,
            "  {} may {}{} on {}",
            self.principal,
            negation(self.allowed),
            self.action,
            self.resource
        );
        let _ = writeln!(text, "  because {}", self.because);
        if !self.statements.is_empty() {
            let _ = writeln!(text, "statements that speak of {}:", self.action);
        }
        for statement in &self.statements {
            let mark = if statement.matches { '*' } else { ' ' };
            let _ =
                writeln!(text, "{mark} {:<5} {}  {}", statement.effect, place(statement), statement.reason);
        }
        if self.other_statements > 0 {
            let _ = writeln!(text, "  ({} more speak of other actions)", self.other_statements);
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn negation(allowed: bool) -> &'static str {
    if allowed { "" } else { "not " }
}
