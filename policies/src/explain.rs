//! Why a decision came out as it did: every statement, with what it matched or what stood against it.
//!
//! For people and for `policy simulate`; the decision itself is [`evaluate`](crate::evaluate)'s. Both
//! ask the same question of each statement.

use crate::document::{Effect, Named};
use crate::evaluate::{
    Decision, PolicySet, Prepared, Reason, Request, StatementRef, evaluate_noting, levels, statement_ref,
};
use crate::pattern::ActionBuffer;
use crate::principal::element::Grant;
use crate::statement::Miss;

/// A statement that was asked, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered<'a> {
    pub statement: StatementRef<'a>,
    pub effect: Effect,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Matches,
    /// It allows, but names only the account of the caller: identity policies decide.
    MatchesAccountOnly,
    OtherAction,
    OtherPrincipal,
    OtherResource,
    /// The variable `${…}` has no single value in this request.
    NoValue {
        variable: String,
    },
    /// A condition does not hold: the condition, its key, and what the request has for it.
    ConditionFails {
        condition: String,
        key: String,
        found: Option<Vec<String>>,
    },
}

/// Asks every statement of the set, in the order in which the decision asks.
pub fn explain<'a>(request: &Request<'_>, set: &PolicySet<'a>) -> Vec<Considered<'a>> {
    let action = ActionBuffer::fold(request.action);
    let prepared = Prepared::new(request, &action, set);
    let (resource_control, service_control) = levels(set, &prepared);
    let policies = resource_control
        .iter()
        .chain(service_control)
        .flatten()
        .chain(set.resource)
        .chain(set.identity)
        .chain(set.boundary)
        .chain(set.session.unwrap_or_default());
    policies.flat_map(|named| consider(named, &prepared)).collect()
}

/// The decision, with every statement that it rests on: of a yes one of each policy that had to allow, of an
/// explicit no every Deny that matches, of an implicit no none.
pub fn decide_with_grounds<'a>(
    request: &Request<'_>,
    set: &PolicySet<'a>,
) -> (Decision<'a>, Vec<StatementRef<'a>>) {
    let mut grounds = Vec::new();
    let decision = evaluate_noting(request, set, &mut |statement| grounds.push(statement));
    match decision.reason {
        Reason::Allowed => {}
        Reason::ImplicitDeny(_) => grounds.clear(),
        Reason::ExplicitDeny(_) => {
            let denies = explain(request, set).into_iter().filter(Considered::denies);
            grounds = denies.map(|considered| considered.statement).collect();
        }
    }
    (decision, grounds)
}

impl Considered<'_> {
    fn denies(&self) -> bool {
        self.effect == Effect::Deny && matches!(self.verdict, Verdict::Matches | Verdict::MatchesAccountOnly)
    }
}

fn consider<'a>(named: &'a Named, prepared: &Prepared<'_>) -> Vec<Considered<'a>> {
    let statements = named.policy.statements().iter().enumerate();
    statements
        .map(|(index, statement)| {
            let verdict = match statement.check(prepared) {
                Ok(Grant::Account) => Verdict::MatchesAccountOnly,
                Ok(Grant::Identity | Grant::Full) => Verdict::Matches,
                Err(Miss::Action) => Verdict::OtherAction,
                Err(Miss::Principal) => Verdict::OtherPrincipal,
                Err(Miss::Resource) => Verdict::OtherResource,
                Err(Miss::Variable(variable)) => Verdict::NoValue { variable: variable.to_owned() },
                Err(Miss::Condition(condition)) => Verdict::ConditionFails {
                    condition: condition.shown().to_owned(),
                    key: condition.shown_key().to_owned(),
                    found: prepared.context.get(condition.key()).map(|value| value.values().to_vec()),
                },
            };
            Considered { statement: statement_ref(named, index), effect: statement.effect(), verdict }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Verdict, explain};
    use crate::{Context, Named, Policy, PolicyKind, PolicySet, Principal, Request};

    #[test]
    fn each_statement_says_what_stood_against_it() {
        let text = r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "ecs:*", "Resource": "*"},
            {"Effect": "Allow", "Action": "ecr:*", "Resource": "arn:aws:ecr:*:*:repository/other"},
            {"Effect": "Allow", "Action": "ecr:*", "Resource": "arn:aws:ecr:*:*:repository/${aws:username}"},
            {"Sid": "Late", "Effect": "Deny", "Action": "ecr:*", "Resource": "*",
             "Condition": {"StringEquals": {"aws:PrincipalTag/Team": ["red", "blue"]}}},
            {"Effect": "Allow", "Action": "ecr:Put*", "Resource": "*"}]}"#;
        let identity = [Named::new("push", Policy::parse(text, PolicyKind::Identity).unwrap())];
        let context: Context = [("aws:PrincipalTag/Team", "green")].into_iter().collect();
        let account = "000000000000";
        let request = Request {
            action: "ecr:PutImage",
            resource: "arn:aws:ecr:us-east-1:000000000000:repository/app",
            resource_account: account,
            principal: &Principal::User { account, arn: "arn:aws:iam::000000000000:user/alice" },
            context: &context,
        };
        let set = PolicySet { identity: &identity, ..PolicySet::default() };
        let verdicts: Vec<_> = explain(&request, &set).into_iter().map(|seen| seen.verdict).collect();
        let failing = Verdict::ConditionFails {
            condition: r#"StringEquals aws:PrincipalTag/Team ["red", "blue"]"#.to_owned(),
            key: "aws:PrincipalTag/Team".to_owned(),
            found: Some(vec!["green".to_owned()]),
        };
        let missing = Verdict::NoValue { variable: "aws:username".to_owned() };
        assert_eq!(
            verdicts,
            [Verdict::OtherAction, Verdict::OtherResource, missing, failing, Verdict::Matches]
        );
        assert_eq!(explain(&request, &set)[3].statement.line, 5);
    }
}
