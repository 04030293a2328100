//! What policies would say, asked without doing it.
//!
//! The same engine decides as for requests; what a simulation does not name (tags, addresses, times) its context
//! does not have.

use policies::{
    Context, ContextValue, Named, PolicyKind, PolicySet, Principal, Reason, Request, decide_with_grounds,
};
use registry_sql::Tx;
use registry_types::Arn;
use serde_json::{Value, json};

use super::call::{Call, word};
use super::document;
use super::error::IamError;
use super::input::Page;
use super::operation::operations;
use super::target::find_policy_source;
use crate::store::entities::{Entity, EntityKind};
use crate::store::policies as store;

operations! {
    Read "SimulatePrincipalPolicy" on PolicySource [] => simulate_principal_policy;
    Read "SimulateCustomPolicy" on Nothing [] => simulate_custom_policy;
}

const MOST_QUESTIONS: usize = 1000;

/// Whose policies are asked, and how the caller is known to them.
struct Simulated {
    identity: Vec<Named>,
    boundary: Vec<Named>,
    /// Whether the control policies of the account bound it.
    in_account: bool,
    kind: EntityKind,
    arn: String,
}

fn simulate_custom_policy(call: &Call, _: &Tx<'_>) -> Result<Value, IamError> {
    if call.input.list("PolicyInputList")?.is_empty() {
        call.input.required("PolicyInputList")?;
    }
    let simulated = Simulated {
        identity: passed(call, "PolicyInputList", PolicyKind::Identity)?,
        boundary: passed(call, "PermissionsBoundaryPolicyInputList", PolicyKind::Boundary)?,
        in_account: false,
        kind: EntityKind::User,
        arn: call.arn("user", "/", "simulated").to_string(),
    };
    simulate(call, simulated)
}

fn simulate_principal_policy(call: &Call, tx: &Tx<'_>) -> Result<Value, IamError> {
    let (kind, entity) = find_policy_source(call, tx)?;
    let mut identity = policies_of(tx, kind, &entity)?;
    identity.extend(passed(call, "PolicyInputList", PolicyKind::Identity)?);
    let mut boundary = passed(call, "PermissionsBoundaryPolicyInputList", PolicyKind::Boundary)?;
    if let (true, Some(arn)) = (boundary.is_empty(), &entity.boundary) {
        // A boundary whose policy is gone bounds to nothing.
        let text = text_of(tx, arn)?.unwrap_or_else(|| DENY_ALL.to_owned());
        boundary = vec![Named::new(arn.as_str(), document::parse(&text, PolicyKind::Boundary)?)];
    }
    let arn = call.arn(word(kind), &entity.path, &entity.name).to_string();
    simulate(call, Simulated { identity, boundary, in_account: true, kind, arn })
}

const DENY_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;

/// Everything attached to a principal, of a user with its groups, under the names that answers call it by.
pub(super) fn texts_of(
    tx: &Tx<'_>,
    kind: EntityKind,
    entity: &Entity,
) -> Result<Vec<(String, String)>, IamError> {
    let mut owners = vec![(entity.uid.clone(), format!("{}_{}", word(kind), entity.name))];
    if kind == EntityKind::User {
        let groups = crate::store::entities::groups_of(tx, &entity.uid)?;
        owners.extend(groups.into_iter().map(|group| (group.uid, format!("group_{}", group.name))));
    }
    let mut texts = Vec::new();
    for (uid, owner) in owners {
        for arn in store::attached_to(tx, &uid)? {
            let Some(text) = text_of(tx, &arn)? else { continue };
            texts.push((arn.rsplit('/').next().unwrap_or_default().to_owned(), text));
        }
        for (name, text) in store::inline_of(tx, &uid)? {
            texts.push((format!("{owner}_{name}"), text));
        }
    }
    Ok(texts)
}

fn policies_of(tx: &Tx<'_>, kind: EntityKind, entity: &Entity) -> Result<Vec<Named>, IamError> {
    let named =
        |(name, text): (String, String)| Ok(Named::new(name, document::parse(&text, PolicyKind::Identity)?));
    texts_of(tx, kind, entity)?.into_iter().map(named).collect()
}

fn text_of(tx: &Tx<'_>, arn: &str) -> Result<Option<String>, IamError> {
    if let Some(shipped) = policies::managed::by_arn(arn) {
        return Ok(Some(shipped.document.to_owned()));
    }
    Ok(store::find(tx, arn)?.map(|policy| policy.document))
}

/// Policies that come with the request, under the names that answers call them by.
fn passed(call: &Call, member: &str, kind: PolicyKind) -> Result<Vec<Named>, IamError> {
    let texts = call.input.texts(member)?;
    let named = |(index, text): (usize, &str)| {
        let policy = document::parse(text, kind)
            .map_err(|error| IamError::InvalidInput(format!("{member}.{}: {error}", index + 1)))?;
        Ok(Named::new(format!("{member}.{}", index + 1), policy))
    };
    texts.into_iter().enumerate().map(named).collect()
}

fn simulate(call: &Call, mut simulated: Simulated) -> Result<Value, IamError> {
    let input = &call.input;
    if input.text("ResourceHandlingOption")?.is_some() {
        return Err(IamError::InvalidInput(
            "ResourceHandlingOption is about EC2's RunInstances, which is not known here.".to_owned(),
        ));
    }
    if let Some(caller) = input.text("CallerArn")? {
        let arn: Arn = caller.parse().map_err(|_| {
            IamError::InvalidInput(format!("Invalid Entity Arn: {caller} does not identify a user."))
        })?;
        if arn.service() != "iam" || !arn.resource().starts_with("user/") {
            return Err(IamError::InvalidInput(format!(
                "Invalid Entity Arn: {caller} does not identify a user."
            )));
        }
        (simulated.arn, simulated.kind) = (caller.to_owned(), EntityKind::User);
    }
    let resource_policy = match input.text("ResourcePolicy")? {
        Some(text) => vec![Named::new("ResourcePolicy", document::parse(text, PolicyKind::ResourcePolicy)?)],
        None => Vec::new(),
    };
    let owner = match input.text("ResourceOwner")? {
        Some(owner) => account_in(owner),
        None => call.account.to_string(),
    };
    let context = context(call, &simulated)?;
    let actions = input.texts("ActionNames")?;
    if actions.is_empty() {
        input.required("ActionNames")?;
    }
    let mut resources = input.texts("ResourceArns")?;
    if resources.is_empty() {
        resources.push("*");
    }
    if actions.len() * resources.len() > MOST_QUESTIONS {
        return Err(IamError::InvalidInput(format!(
            "A simulation asks at most {MOST_QUESTIONS} questions: actions times resources."
        )));
    }
    let controls: &[Vec<Named>] =
        if simulated.in_account { call.directory.levels.service_control(&call.account) } else { &[] };
    let mut results = Vec::new();
    for action in &actions {
        if !action.contains(':') {
            return Err(IamError::InvalidInput(format!("Invalid action name: {action}")));
        }
        for resource in &resources {
            let key = format!("{:04}", results.len());
            let asked = Asked { action, resource, owner: &owner, context: &context, controls };
            results.push((key, asked.of(&simulated, &resource_policy)));
        }
    }
    let page: Page = input.page()?;
    Ok(page.of_all(results, |(key, _)| key).answer("EvaluationResults", |(_, result)| result))
}

/// One question.
struct Asked<'a> {
    action: &'a str,
    resource: &'a str,
    owner: &'a str,
    context: &'a Context,
    /// Service control policies, level by level.
    controls: &'a [Vec<Named>],
}

impl Asked<'_> {
    fn of(&self, simulated: &Simulated, resource_policy: &[Named]) -> Value {
        let account = account_in(&simulated.arn);
        let principal = match simulated.kind {
            EntityKind::User | EntityKind::Group => {
                Principal::User { account: &account, arn: &simulated.arn }
            }
            EntityKind::Role => Principal::RoleSession {
                account: &account,
                role_arn: &simulated.arn,
                session_arn: "",
                service_linked: false,
            },
        };
        let request = Request {
            action: self.action,
            resource: self.resource,
            resource_account: self.owner,
            principal: &principal,
            context: self.context,
        };
        let set = PolicySet {
            identity: &simulated.identity,
            boundary: &simulated.boundary,
            resource: resource_policy,
            service_control: self.controls,
            ..PolicySet::default()
        };
        let (decision, grounds) = decide_with_grounds(&request, &set);
        let word = match decision.reason {
            Reason::Allowed => "allowed",
            Reason::ExplicitDeny(_) => "explicitDeny",
            Reason::ImplicitDeny(_) => "implicitDeny",
        };
        let statements: Vec<Value> = grounds
            .iter()
            .map(|ground| {
                let line = ground.line;
                json!({
                    "SourcePolicyId": ground.policy,
                    "SourcePolicyType": source_type(ground.kind),
                    "StartPosition": { "Line": line, "Column": 1 },
                    "EndPosition": { "Line": line, "Column": 1 },
                })
            })
            .collect();
        let within = |bound: PolicyKind| {
            decision.reason != Reason::ImplicitDeny(bound) && decision.reason != Reason::ExplicitDeny(bound)
        };
        let bounded = (!simulated.boundary.is_empty())
            .then(|| json!({ "AllowedByPermissionsBoundary": within(PolicyKind::Boundary) }));
        let controlled = (!self.controls.is_empty())
            .then(|| json!({ "AllowedByOrganizations": within(PolicyKind::ServiceControl) }));
        json!({
            "EvalActionName": self.action,
            "EvalResourceName": self.resource,
            "EvalDecision": word,
            "MatchedStatements": statements,
            "MissingContextValues": [],
            "PermissionsBoundaryDecisionDetail": bounded,
            "OrganizationsDecisionDetail": controlled,
        })
    }
}

fn source_type(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::RepositoryPolicy
        | PolicyKind::RegistryPolicy
        | PolicyKind::ResourcePolicy
        | PolicyKind::Trust => "resource",
        PolicyKind::Identity
        | PolicyKind::Session
        | PolicyKind::Boundary
        | PolicyKind::ServiceControl
        | PolicyKind::ResourceControl => "IAM Policy",
    }
}

/// What the request says of the circumstances, over what is known of the principal.
fn context(call: &Call, simulated: &Simulated) -> Result<Context, IamError> {
    let mut context = Context::new();
    context.set("aws:PrincipalArn", simulated.arn.as_str());
    context.set("aws:PrincipalAccount", account_in(&simulated.arn));
    if simulated.kind == EntityKind::User {
        context.set("aws:username", simulated.arn.rsplit('/').next().unwrap_or_default());
    }
    for entry in call.input.list("ContextEntries")? {
        let malformed = || IamError::InvalidInput("The member ContextEntries is malformed.".to_owned());
        let name = entry["ContextKeyName"].as_str().ok_or_else(malformed)?;
        let values = entry["ContextKeyValues"].as_array().ok_or_else(malformed)?;
        let values: Option<Vec<String>> =
            values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
        let mut values = values.ok_or_else(malformed)?;
        let kind = entry["ContextKeyType"].as_str().ok_or_else(malformed)?;
        let value = if kind.ends_with("List") || values.len() != 1 {
            ContextValue::Many(values)
        } else {
            ContextValue::One(values.swap_remove(0))
        };
        context.set(name, value);
    }
    Ok(context)
}

/// The account in an ARN; what is no ARN is one itself.
fn account_in(text: &str) -> String {
    text.split(':').nth(4).unwrap_or(text).to_owned()
}
