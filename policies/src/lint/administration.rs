//! Wildcards that hand out administration.

use super::strings;
use crate::context::Context;
use crate::document::PolicyKind;
use crate::finding::Findings;
use crate::json::Node;
use crate::pattern::{ActionBuffer, ActionPattern, FoldedAction};

/// Whoever may do one of these to anything can come to have every right.
const ADMINISTRATION: [&str; 14] = [
    "iam:AddUserToGroup",
    "iam:AttachGroupPolicy",
    "iam:AttachRolePolicy",
    "iam:AttachUserPolicy",
    "iam:CreateAccessKey",
    "iam:CreatePolicyVersion",
    "iam:DeleteUserPermissionsBoundary",
    "iam:PutGroupPolicy",
    "iam:PutRolePolicy",
    "iam:PutUserPolicy",
    "iam:SetDefaultPolicyVersion",
    "iam:UpdateAssumeRolePolicy",
    "iam:PassRole",
    "berth:PublishPolicies",
];

/// Policies that grant to whom they are attached; bounds may be as wide as they like.
pub(super) fn review(statement: &Node, kind: PolicyKind, findings: &mut Findings<'_>) {
    let allows = statement.get("Effect").and_then(Node::as_str) == Some("Allow");
    let everywhere = strings(statement.get("Resource")).iter().any(|(_, text)| *text == "*");
    if kind != PolicyKind::Identity || !allows || !everywhere || statement.get("Condition").is_some() {
        return;
    }
    for (at, text) in
        strings(statement.get("Action")).into_iter().filter(|(_, text)| text.contains(['*', '?']))
    {
        let Ok(pattern) = ActionPattern::compile(text) else { continue };
        let granted = ADMINISTRATION.iter().find(|action| {
            let buffer = ActionBuffer::fold(action);
            pattern.matches(&FoldedAction::of(&buffer), &Context::new())
        });
        match granted {
            Some(_) if text == "*" => findings.warning(
                at,
                "this grants administration: every action on everything, now and in future; name the actions \
                 that are needed",
            ),
            Some(action) => findings.warning(
                at,
                format!(
                    "this grants administration: {text} includes {action} on everything; name the actions that \
                     are needed, or the resources"
                ),
            ),
            None => {}
        }
    }
}
