//! "May she, and why?" — asked of a set of files, without a server.
//!
//! Decides with the very engine that serves requests, over the policies that the set gives to the
//! principal and the resource, and tells of each statement what it matched or what stood against it.

mod batch;
mod compare;
mod question;
mod render;

use std::collections::{BTreeMap, HashMap};

use policies::{
    Batch, Considered, Context, ContextValue, Decision, Effect, Named, Policy, PolicyKind, PolicySet,
    Principal, Reason, Request, Verdict, evaluate, explain, managed,
};
use registry_types::Region;
use serde::Serialize;
use thiserror::Error;

use super::model::{ControlFile, GroupFile, InlinePolicy, PolicyFiles};
use crate::authenticate::LOG_IN;
pub use batch::{BatchSummary, simulate_batch};
pub use compare::{Circumstances, Difference, Permitted, diff, who_can};
use question::Who;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// `user/alice`, `role/deploy`, `role/deploy/SESSION`, `service/ecs-tasks.amazonaws.com`, `root`,
    /// `anonymous`, or the ARN of a user, role or session.
    pub principal: &'a str,
    /// `ecr:PutImage`
    pub action: &'a str,
    /// `repository/app`, `cluster/default`, `role/tasks/web`, `*`, or an ARN.
    pub resource: &'a str,
    /// Condition keys with values; a key that comes several times holds a list.
    pub context: &'a [(String, String)],
    /// For short resource names, and `aws:RequestedRegion`.
    pub region: &'a Region,
    /// For `aws:CurrentTime`, in milliseconds since the epoch.
    pub now_ms: i64,
}

/// A question that cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SimulateError {
    #[error("{0}")]
    Question(String),
    #[error("there is no {kind} {name:?} in these files")]
    Unknown { kind: &'static str, name: String },
}

/// The answer. Serializes for programs; [`Simulation::text`] is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Simulation {
    /// ARN, or the name of what has none.
    pub principal: String,
    pub action: String,
    pub resource: String,
    pub allowed: bool,
    /// `allowed`, `explicitDeny` or `implicitDeny`.
    pub decision: &'static str,
    /// One sentence.
    pub because: String,
    /// The statement that decided, if one did.
    pub decided_by: Option<StatementReport>,
    /// Every statement that speaks of the action, in the order in which they are asked.
    pub statements: Vec<StatementReport>,
    /// How many more there are, that speak of other actions.
    pub other_statements: usize,
    /// Condition keys that the decision was made with, in lower case.
    pub context: Vec<(String, Vec<String>)>,
    /// What the files cannot tell, such as keys that only a real request has.
    pub notes: Vec<String>,
}

/// One statement, where it stands, and what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatementReport {
    /// Name or ARN.
    pub policy: String,
    /// "an identity policy"
    pub kind: &'static str,
    /// None for what Berth ships.
    pub file: Option<String>,
    /// In the file; in the document where there is no file.
    pub line: u32,
    pub sid: Option<String>,
    /// Counted from 0.
    pub index: usize,
    /// `Allow` or `Deny`.
    pub effect: &'static str,
    pub matches: bool,
    /// What it matched, or what stood against it.
    pub reason: String,
}

/// Decides a question by a checked set.
///
/// # Errors
/// A principal that is not in the set, or a question that cannot be read.
pub fn simulate(files: &PolicyFiles, question: &Question<'_>) -> Result<Simulation, SimulateError> {
    let who = question::principal(files, question.principal)?;
    let resource = question::resource(files, question)?;
    let mut places = Places::default();
    let policies = Policies::gather(files, &who, &resource, question.action, &mut places)?;
    let context = question::context(files, question, &who, &resource);
    let principal = who.as_principal();
    let request = Request {
        action: question.action,
        resource: &resource,
        resource_account: asked_account(files, &principal, question.action, &resource),
        principal: &principal,
        context: &context,
    };
    let set = PolicySet {
        identity: &policies.identity,
        boundary: policies.boundary.as_slice(),
        resource: &policies.resource,
        service_control: &policies.service_control,
        resource_control: &policies.resource_control,
        ..PolicySet::default()
    };
    let decision = evaluate(&request, &set);
    let considered = explain(&request, &set);
    let mut told = tell(shown_principal(&principal), &request, &decision, &considered, &places);
    told.notes = question::notes(&considered);
    Ok(told)
}

/// Decides a case that carries its own policies, as a line of a batch does.
///
/// # Errors
/// Everything that keeps the case from being decided.
pub fn simulate_case(text: &str) -> Result<Simulation, SimulateError> {
    let told = Batch::new().explain(text, |request, decision, considered| {
        let principal = shown_principal(request.principal);
        tell(principal, request, decision, considered, &Places::default())
    });
    told.map_err(SimulateError::Question)
}

fn tell(
    principal: String,
    request: &Request<'_>,
    decision: &Decision<'_>,
    considered: &[Considered<'_>],
    places: &Places,
) -> Simulation {
    let reports = considered.iter().map(|considered| (considered, places.report(considered)));
    let (speaking, others): (Vec<_>, Vec<_>) =
        reports.partition(|(considered, _)| considered.verdict != Verdict::OtherAction);
    let decided_by = decision.statement.and_then(|statement| {
        let found = speaking.iter().find(|(considered, _)| considered.statement == statement);
        found.map(|(_, report)| report.clone())
    });
    Simulation {
        principal,
        action: request.action.to_owned(),
        resource: request.resource.to_owned(),
        allowed: decision.allowed(),
        decision: match decision.reason {
            Reason::Allowed => "allowed",
            Reason::ExplicitDeny(_) => "explicitDeny",
            Reason::ImplicitDeny(_) => "implicitDeny",
        },
        because: render::because(request.principal, decision.reason, decided_by.as_ref()),
        decided_by,
        statements: speaking.into_iter().map(|(_, report)| report).collect(),
        other_statements: others.len(),
        context: shown_context(request.context),
        notes: Vec::new(),
    }
}

fn shown_principal(principal: &Principal<'_>) -> String {
    match *principal {
        Principal::Anonymous => "anonymous".to_owned(),
        Principal::Root { account } => format!("arn:aws:iam::{account}:root"),
        Principal::RoleSession { role_arn, session_arn: "", .. } => role_arn.to_owned(),
        Principal::User { arn, .. }
        | Principal::RoleSession { session_arn: arn, .. }
        | Principal::FederatedUser { session_arn: arn, .. } => arn.to_owned(),
        Principal::Service { name } => name.to_owned(),
        Principal::WebIdentity { provider_arn } => provider_arn.to_owned(),
    }
}

fn shown_context(context: &Context) -> Vec<(String, Vec<String>)> {
    let values = |value: &ContextValue| match value {
        ContextValue::One(value) => vec![value.clone()],
        ContextValue::Many(values) => values.clone(),
    };
    let mut shown: Vec<_> = context.iter().map(|(key, value)| (key.to_owned(), values(value))).collect();
    shown.sort();
    shown
}

/// The account that has to allow an action: logging in is its caller's own affair, as it is at the gate.
fn asked_account<'a>(
    files: &'a PolicyFiles,
    principal: &'a Principal<'_>,
    action: &str,
    resource: &'a str,
) -> &'a str {
    let own = if action.eq_ignore_ascii_case(LOG_IN) { principal.account() } else { None };
    account_of(resource).or(own).unwrap_or(files.account.as_str())
}

fn account_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(4).filter(|account| !account.is_empty())
}

/// Which file a policy of some name stands in.
#[derive(Default)]
struct Places(HashMap<String, String>);

impl Places {
    fn put(&mut self, policy: &str, file: &str) {
        self.0.insert(policy.to_owned(), file.to_owned());
    }

    fn report(&self, considered: &Considered<'_>) -> StatementReport {
        let statement = &considered.statement;
        StatementReport {
            policy: statement.policy.to_owned(),
            kind: statement.kind.described(),
            file: self.0.get(statement.policy).cloned(),
            line: statement.line,
            sid: statement.sid.map(str::to_owned),
            index: statement.index,
            effect: match considered.effect {
                Effect::Allow => "Allow",
                Effect::Deny => "Deny",
            },
            matches: matches!(considered.verdict, Verdict::Matches | Verdict::MatchesAccountOnly),
            reason: render::verdict(&considered.verdict),
        }
    }
}

/// The policies that bear on the question.
struct Policies {
    identity: Vec<Named>,
    boundary: Option<Named>,
    resource: Vec<Named>,
    service_control: Vec<Vec<Named>>,
    resource_control: Vec<Vec<Named>>,
}

impl Policies {
    fn gather(
        files: &PolicyFiles,
        who: &Who<'_>,
        resource: &str,
        action: &str,
        places: &mut Places,
    ) -> Result<Policies, SimulateError> {
        let mut identity = Vec::new();
        let mut boundary = None;
        match who {
            Who::User(user, _) => {
                let groups = || files.groups.iter().filter(|group| group.account == user.account);
                attached(files, &user.attached, &mut identity, places);
                inline(&user.name, &user.file, &user.inline, &mut identity, places);
                let groups = user.groups.iter().filter_map(|name| groups().find(|group| group.name == *name));
                for GroupFile { file, name, attached: policies, inline: own, .. } in groups {
                    attached(files, policies, &mut identity, places);
                    inline(name, file, own, &mut identity, places);
                }
                boundary = user.boundary.as_deref();
            }
            Who::Role { role, .. } => {
                attached(files, &role.attached, &mut identity, places);
                inline(&role.name, &role.file, &role.inline, &mut identity, places);
                boundary = role.boundary.as_deref();
            }
            Who::Root(_) | Who::Anonymous | Who::Service(_) => {}
        }
        let boundary = boundary.and_then(|arn| managed_policy(files, arn, PolicyKind::Boundary, places));
        let account = who.as_principal().account();
        let of_account = |file: &&ControlFile| account == Some(file.account.as_str());
        Ok(Policies {
            identity,
            boundary,
            resource: of_resource(files, resource, action, places)?,
            service_control: levels(files.service_control.iter().filter(of_account), places),
            resource_control: levels(files.resource_control.iter(), places),
        })
    }
}

fn attached(files: &PolicyFiles, arns: &[String], into: &mut Vec<Named>, places: &mut Places) {
    into.extend(arns.iter().filter_map(|arn| managed_policy(files, arn, PolicyKind::Identity, places)));
}

/// Level by level, in the order of their names.
fn levels<'f>(files: impl Iterator<Item = &'f ControlFile>, places: &mut Places) -> Vec<Vec<Named>> {
    let mut levels: BTreeMap<&str, Vec<Named>> = BTreeMap::new();
    for file in files {
        places.put(&file.file, &file.file);
        let policy = Named::new(file.file.as_str(), file.policy.clone());
        levels.entry(&file.level).or_default().push(policy);
    }
    levels.into_values().collect()
}

fn inline(owner: &str, file: &str, policies: &[InlinePolicy], into: &mut Vec<Named>, places: &mut Places) {
    for inline in policies {
        let name = format!("{owner}/{}", inline.name);
        places.put(&name, file);
        into.push(Named::new(name, inline.policy.clone()));
    }
}

fn managed_policy(files: &PolicyFiles, arn: &str, kind: PolicyKind, places: &mut Places) -> Option<Named> {
    if let Some(own) = files.policies.iter().find(|policy| policy.arn == arn) {
        places.put(arn, &own.file);
        return match kind {
            PolicyKind::Identity => Some(Named::new(arn, own.policy.clone())),
            _ => Some(Named::new(arn, Policy::parse(&own.document, kind).ok()?)),
        };
    }
    let shipped = managed::by_arn(arn)?;
    Some(Named::new(arn, Policy::parse(shipped.document, kind).ok()?))
}

/// The policy that the resource carries: a repository's, or a role's trust policy for taking it.
fn of_resource(
    files: &PolicyFiles,
    resource: &str,
    action: &str,
    places: &mut Places,
) -> Result<Vec<Named>, SimulateError> {
    let Some((_, name)) = resource.splitn(6, ':').nth(5).and_then(|part| part.split_once('/')) else {
        return Ok(Vec::new());
    };
    if action.to_lowercase().starts_with("sts:assumerole") {
        let role = files.roles.iter().find(|role| question::role_arn(role) == resource);
        let role = role.ok_or_else(|| SimulateError::Unknown { kind: "role", name: name.to_owned() })?;
        let shown = format!("{}/{}", role.name, role.trust_policy.name);
        places.put(&shown, &role.file);
        return Ok(vec![Named::new(shown, role.trust_policy.policy.clone())]);
    }
    if !resource.contains(":repository/") {
        return Ok(Vec::new());
    }
    let repository = files.repositories.iter().filter(|file| file.repository.as_str() == name);
    Ok(repository
        .map(|file| {
            places.put(&file.file, &file.file);
            Named::new(file.file.as_str(), file.policy.clone())
        })
        .collect())
}

impl Who<'_> {
    fn as_principal(&self) -> Principal<'_> {
        match self {
            Who::User(user, arn) => Principal::User { account: account_of(arn).unwrap_or(&user.name), arn },
            Who::Role { role, role_arn, session_arn } => Principal::RoleSession {
                account: account_of(role_arn).unwrap_or(&role.name),
                role_arn,
                session_arn,
                service_linked: false,
            },
            Who::Root(account) => Principal::Root { account },
            Who::Anonymous => Principal::Anonymous,
            Who::Service(name) => Principal::Service { name },
        }
    }
}

#[cfg(test)]
mod tests;
