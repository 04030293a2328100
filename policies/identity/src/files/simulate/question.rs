//! Reading a question: short names of principals and resources, and the keys a request would have.

use policies::{Considered, Context, ContextValue, Verdict};
use registry_aws::timestamp::iso8601;
use registry_types::Arn;

use super::{Question, SimulateError};
use crate::files::model::{PolicyFiles, RoleFile, UserFile};

/// A principal of the set, with its ARNs.
pub(super) enum Who<'f> {
    User(&'f UserFile, String),
    Role {
        role: &'f RoleFile,
        role_arn: String,
        session_arn: String,
    },
    /// Of this account.
    Root(&'f str),
    Anonymous,
    Service(&'f str),
}

/// The session that a role is asked about when none is named.
const SESSION: &str = "simulated";

pub(super) fn role_arn(role: &RoleFile) -> String {
    format!("arn:aws:iam::{}:role{}{}", role.account, role.path, role.name)
}

pub(super) fn user_arn(user: &UserFile) -> String {
    format!("arn:aws:iam::{}:user{}{}", user.account, user.path, user.name)
}

pub(super) fn principal<'f>(files: &'f PolicyFiles, text: &'f str) -> Result<Who<'f>, SimulateError> {
    let mut parts = text.splitn(6, ':');
    let (account, short) = match text.parse::<Arn>() {
        Err(_) => (files.account.as_str(), text),
        Ok(_) => (parts.nth(4).unwrap_or_default(), parts.next().unwrap_or_default()),
    };
    let (kind, name) = short.split_once('/').unwrap_or((short, ""));
    match kind {
        "anonymous" if name.is_empty() => Ok(Who::Anonymous),
        "root" if name.is_empty() => Ok(Who::Root(account)),
        "service" if !name.is_empty() => Ok(Who::Service(name)),
        "user" => {
            let base = last_segment(name);
            let mut users = files.users.iter().filter(|user| user.account.as_str() == account);
            let user = users.find(|user| user.name.eq_ignore_ascii_case(base));
            let user = user.ok_or_else(|| unknown("user", name))?;
            Ok(Who::User(user, user_arn(user)))
        }
        "role" | "assumed-role" => role(files, account, name),
        _ => Err(SimulateError::Question(format!(
            "{text:?} is not a principal: write user/NAME, role/NAME, role/NAME/SESSION, service/NAME, root, \
             anonymous, or an ARN"
        ))),
    }
}

/// `NAME`, `PATH/NAME`, or either with `/SESSION` behind it.
fn role<'f>(files: &'f PolicyFiles, account: &str, name: &str) -> Result<Who<'f>, SimulateError> {
    let find = |name: &str| {
        let full = format!("/{name}");
        let mut roles = files.roles.iter().filter(|role| role.account.as_str() == account);
        roles.find(|role| {
            role.name.eq_ignore_ascii_case(name)
                || full.eq_ignore_ascii_case(&format!("{}{}", role.path, role.name))
        })
    };
    let (role, session) = match (find(name), name.rsplit_once('/')) {
        (Some(role), _) => (role, SESSION),
        (None, Some((name, session))) => (find(name).ok_or_else(|| unknown("role", name))?, session),
        (None, None) => return Err(unknown("role", name)),
    };
    Ok(who_of_role(role, session))
}

fn who_of_role<'f>(role: &'f RoleFile, session: &str) -> Who<'f> {
    let session_arn = format!("arn:aws:sts::{}:assumed-role/{}/{session}", role.account, role.name);
    Who::Role { role, role_arn: role_arn(role), session_arn }
}

/// Everybody whom the files name, and the stranger.
pub(super) fn everybody(files: &PolicyFiles) -> impl Iterator<Item = Who<'_>> {
    let users = files.users.iter().map(|user| Who::User(user, user_arn(user)));
    let roles = files.roles.iter().map(|role| who_of_role(role, SESSION));
    users.chain(roles).chain(std::iter::once(Who::Anonymous))
}

fn unknown(kind: &'static str, name: &str) -> SimulateError {
    SimulateError::Unknown { kind, name: name.to_owned() }
}

fn last_segment(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The ARN that a short name stands for.
pub(super) fn resource(files: &PolicyFiles, question: &Question<'_>) -> Result<String, SimulateError> {
    let text = question.resource;
    if text == "*" || text.starts_with("arn:") {
        return Ok(text.to_owned());
    }
    let (kind, name) = text.split_once('/').unwrap_or((text, ""));
    let regional = |service: &str| format!("arn:aws:{service}:{}:{}:{text}", question.region, files.account);
    match kind {
        "role" if !name.is_empty() => {
            let known = role(files, files.account.as_str(), name).ok();
            let known = known
                .and_then(|who| if let Who::Role { role_arn, .. } = who { Some(role_arn) } else { None });
            Ok(known.unwrap_or_else(|| format!("arn:aws:iam::{}:{text}", files.account)))
        }
        "user" | "group" | "policy" if !name.is_empty() => {
            Ok(format!("arn:aws:iam::{}:{text}", files.account))
        }
        "repository" if !name.is_empty() => Ok(regional("ecr")),
        "cluster" | "service" | "task" | "task-definition" | "task-set" | "container-instance"
        | "capacity-provider"
            if !name.is_empty() =>
        {
            Ok(regional("ecs"))
        }
        _ => Err(SimulateError::Question(format!(
            "{text:?} is not a resource: write repository/NAME, cluster/NAME, service/CLUSTER/NAME, \
             task-definition/FAMILY:REVISION, role/NAME, *, or an ARN"
        ))),
    }
}

/// What a request of this principal would have, with what the question says on top.
pub(super) fn context(
    files: &PolicyFiles,
    question: &Question<'_>,
    who: &Who<'_>,
    resource: &str,
) -> Context {
    let mut context = Context::new();
    context.set("aws:CurrentTime", iso8601(question.now_ms));
    context.set("aws:EpochTime", question.now_ms.div_euclid(1000));
    context.set("aws:RequestedRegion", question.region.as_str());
    context.set("aws:SecureTransport", true);
    context.set("aws:SourceIp", "127.0.0.1");
    context.set("aws:ViaAWSService", false);
    context.set("aws:PrincipalIsAWSService", matches!(who, Who::Service(_)));
    if resource != "*" {
        context.set("aws:ResourceAccount", files.account.as_str());
    }
    let known = match who {
        Who::User(user, arn) => {
            context.set("aws:username", user.name.as_str());
            Some(("User", arn.clone(), user.tags.as_slice()))
        }
        Who::Role { role, role_arn, .. } => {
            context.set("aws:TokenIssueTime", iso8601(question.now_ms));
            context.set("aws:MultiFactorAuthPresent", false);
            Some(("AssumedRole", role_arn.clone(), role.tags.as_slice()))
        }
        Who::Root(account) => Some(("Account", format!("arn:aws:iam::{account}:root"), &[][..])),
        Who::Anonymous => {
            context.set("aws:PrincipalType", "Anonymous");
            None
        }
        Who::Service(_) => None,
    };
    if let Some((kind, arn, tags)) = known {
        context.set("aws:PrincipalType", kind);
        context.set("aws:PrincipalArn", arn);
        context.set("aws:PrincipalAccount", who.as_principal().account().unwrap_or(files.account.as_str()));
        for (key, value) in tags {
            context.set(&format!("aws:PrincipalTag/{key}"), value.as_str());
        }
    }
    for (key, _) in question.context {
        let values: Vec<String> = question
            .context
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(key))
            .map(|(_, value)| value.clone())
            .collect();
        match values.as_slice() {
            [one] if !holds_a_list(key) => context.set(key, one.as_str()),
            _ => context.set(key, ContextValue::Many(values)),
        }
    }
    context
}

/// Keys that are lists by definition, even of one element.
fn holds_a_list(key: &str) -> bool {
    const LISTS: [&str; 9] = [
        "aws:TagKeys",
        "aws:CalledVia",
        "aws:PrincipalOrgPaths",
        "berth:HostPaths",
        "berth:Capabilities",
        "berth:Devices",
        "berth:HostNamespaces",
        "ecs:capacity-provider",
        "ecs:subnet",
    ];
    LISTS.iter().any(|list| list.eq_ignore_ascii_case(key))
}

/// Conditions that failed, or held, only because the question does not give their key.
pub(super) fn notes(considered: &[Considered<'_>]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for considered in considered {
        let missing = match &considered.verdict {
            Verdict::ConditionFails { key, found: None, .. } => key,
            Verdict::NoValue { variable } => variable,
            _ => continue,
        };
        let note = format!("a real request may have {missing}; give it with --context {missing}=VALUE");
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}
