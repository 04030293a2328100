//! Who may do something, and what a change of files would newly allow and deny.
//!
//! Asks about every principal of the files, with what is known of it and nothing of a request: a condition on
//! `aws:SourceIp` does not hold here.

use std::collections::{BTreeMap, BTreeSet};

use policies::{Context, Decision, Effect, PolicySet, Request, Verdict, actions_of, evaluate, explain};
use registry_types::{Region, RepositoryName};
use serde::Serialize;

use super::question::{self, Who};
use super::{Places, Policies, Question, SimulateError, asked_account, of_resource, shown_principal};
use crate::files::model::PolicyFiles;

/// Somebody who may do what was asked, or might.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Permitted {
    /// ARN of a user or of a session of a role, or `anonymous`.
    pub principal: String,
    /// The policy that allows it, and the statement in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Condition keys that a request would have to have, with a value that a statement asks for. Empty: it may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
}

/// What a change of files changes for one principal and one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    pub principal: String,
    /// ARN, or `*` for what has no resource.
    pub resource: String,
    pub newly_allowed: Vec<String>,
    pub newly_denied: Vec<String>,
}

/// Where and when questions are asked.
#[derive(Debug, Clone)]
pub struct Circumstances<'a> {
    pub region: &'a Region,
    /// Milliseconds since the epoch.
    pub now_ms: i64,
}

/// A principal with the policies of its own.
struct Asking<'f> {
    files: &'f PolicyFiles,
    who: Who<'f>,
    policies: Policies,
}

impl<'f> Asking<'f> {
    fn everybody(files: &'f PolicyFiles) -> Result<Vec<Asking<'f>>, SimulateError> {
        let asking = |who: Who<'f>| {
            let policies = Policies::gather(files, &who, "*", "", &mut Places::default())?;
            Ok(Asking { files, who, policies })
        };
        question::everybody(files).map(asking).collect()
    }

    fn name(&self) -> String {
        shown_principal(&self.who.as_principal())
    }

    fn context(&self, resource: &str, circumstances: &Circumstances<'_>) -> Context {
        let question = Question {
            principal: "",
            action: "",
            resource,
            context: &[],
            region: circumstances.region,
            now_ms: circumstances.now_ms,
        };
        let mut context = question::context(self.files, &question, &self.who, resource);
        // Where a request comes from is not known here.
        context.remove("aws:SourceIp");
        context
    }

    /// Asks with the policies of the resource, and hands over what it asked.
    fn ask<R>(
        &self,
        (action, resource): (&str, &str),
        context: &Context,
        answer: impl FnOnce(&Request<'_>, &PolicySet<'_>) -> R,
    ) -> R {
        // A role that is not in the files trusts nobody whom they know.
        let of_resource =
            of_resource(self.files, resource, action, &mut Places::default()).unwrap_or_default();
        let principal = self.who.as_principal();
        let request = Request {
            action,
            resource,
            resource_account: asked_account(self.files, &principal, action, resource),
            principal: &principal,
            context,
        };
        let set = PolicySet {
            identity: &self.policies.identity,
            boundary: self.policies.boundary.as_slice(),
            resource: &of_resource,
            service_control: &self.policies.service_control,
            resource_control: &self.policies.resource_control,
            ..PolicySet::default()
        };
        answer(&request, &set)
    }
}

/// Everybody of the files who may do this, and those who may where a request has certain keys.
///
/// # Errors
/// When the resource cannot be read.
pub fn who_can(
    files: &PolicyFiles,
    action: &str,
    resource: &str,
    circumstances: &Circumstances<'_>,
) -> Result<Vec<Permitted>, SimulateError> {
    let question = Question {
        principal: "",
        action,
        resource,
        context: &[],
        region: circumstances.region,
        now_ms: circumstances.now_ms,
    };
    let resource = question::resource(files, &question)?;
    let mut permitted = Vec::new();
    for asking in Asking::everybody(files)? {
        let context = asking.context(&resource, circumstances);
        permitted.extend(asking.ask((action, &resource), &context, |request, set| {
            let decision = evaluate(request, set);
            let needs = if decision.allowed() { Vec::new() } else { missing_keys(request, set, &decision) };
            (decision.allowed() || !needs.is_empty()).then(|| Permitted {
                principal: asking.name(),
                policy: decision.statement.map(|statement| statement.policy.to_owned()),
                sid: decision.statement.and_then(|statement| statement.sid).map(str::to_owned),
                needs,
            })
        }));
    }
    Ok(permitted)
}

/// The keys for want of which an Allow does not match.
fn missing_keys(request: &Request<'_>, set: &PolicySet<'_>, decision: &Decision<'_>) -> Vec<String> {
    if decision.statement.is_some() {
        return Vec::new();
    }
    let mut keys = BTreeSet::new();
    for considered in
        explain(request, set).into_iter().filter(|considered| considered.effect == Effect::Allow)
    {
        match considered.verdict {
            Verdict::ConditionFails { key, found: None, .. } => keys.insert(key),
            Verdict::NoValue { variable } => keys.insert(variable),
            _ => false,
        };
    }
    keys.into_iter().collect()
}

/// What `new` allows and `old` does not, and the other way round: for the principals of both, and for these
/// repositories and those that either names.
///
/// # Errors
/// When a set cannot be asked.
pub fn diff(
    old: &PolicyFiles,
    new: &PolicyFiles,
    repositories: &[RepositoryName],
    circumstances: &Circumstances<'_>,
) -> Result<Vec<Difference>, SimulateError> {
    let mut principals: BTreeMap<String, [Option<Asking<'_>>; 2]> = BTreeMap::new();
    for (side, files) in [old, new].into_iter().enumerate() {
        for asking in Asking::everybody(files)? {
            let name = asking.name();
            principals.entry(name).or_default()[side] = Some(asking);
        }
    }
    let questions = questions([old, new], repositories, circumstances.region);
    let mut differences = Vec::new();
    for (principal, sides) in &principals {
        for (resource, actions) in &questions {
            let answers =
                sides.each_ref().map(|asking| allowed(asking.as_ref(), resource, actions, circumstances));
            let pairs = || actions.iter().zip(answers[0].iter().zip(&answers[1]));
            let changed = |from: bool, to: bool| -> Vec<String> {
                let changed = pairs().filter(|(_, (old, new))| **old == from && **new == to);
                changed.map(|(action, _)| action.clone()).collect()
            };
            let (newly_allowed, newly_denied) = (changed(false, true), changed(true, false));
            if !newly_allowed.is_empty() || !newly_denied.is_empty() {
                let (principal, resource) = (principal.clone(), resource.clone());
                differences.push(Difference { principal, resource, newly_allowed, newly_denied });
            }
        }
    }
    Ok(differences)
}

/// Whoever is not there may nothing.
fn allowed(
    asking: Option<&Asking<'_>>,
    resource: &str,
    actions: &[String],
    circumstances: &Circumstances<'_>,
) -> Vec<bool> {
    let Some(asking) = asking else { return vec![false; actions.len()] };
    let context = asking.context(resource, circumstances);
    let ask = |action: &String| {
        asking.ask((action, resource), &context, |request, set| evaluate(request, set).allowed())
    };
    actions.iter().map(ask).collect()
}

const SERVICES: [&str; 7] = ["ecr", "ecs", "iam", "logs", "secretsmanager", "ssm", "sts"];

/// Resources with the actions that are asked about them.
fn questions(
    sets: [&PolicyFiles; 2],
    repositories: &[RepositoryName],
    region: &Region,
) -> BTreeMap<String, Vec<String>> {
    let of_service = |service: &'static str| actions_of(service).map(move |name| format!("{service}:{name}"));
    let mut questions = BTreeMap::new();
    questions.insert("*".to_owned(), SERVICES.into_iter().flat_map(of_service).collect());
    for files in sets {
        let named = files.repositories.iter().map(|file| &file.repository);
        for repository in named.chain(repositories) {
            let arn = format!("arn:aws:ecr:{region}:{}:repository/{repository}", files.account);
            questions.entry(arn).or_insert_with(|| of_service("ecr").collect());
        }
        for role in &files.roles {
            let actions = || ["iam:PassRole", "sts:AssumeRole"].map(str::to_owned).to_vec();
            questions.entry(question::role_arn(role)).or_insert_with(actions);
        }
    }
    questions
}

#[cfg(test)]
mod tests {
    use super::{Circumstances, diff, who_can};
    use crate::files::tests::directory;
    use crate::files::{PolicyFiles, check};
    use crate::testing::policy;

    fn files(user: &str, more: &[(&str, &str)]) -> PolicyFiles {
        check(directory(&[&[("users/alice.json", user)], more].concat()).path()).unwrap()
    }

    #[test]
    fn everybody_who_may_is_named_with_the_statement_or_with_what_is_needed() {
        let user = r#"{"inlinePolicies": {"own": {"Version": "2012-10-17", "Statement": {"Sid": "Home",
            "Effect": "Allow", "Action": "ecr:PutImage", "Resource": "*",
            "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}}}}"#;
        let open = r#"{"Statement": {"Sid": "Open", "Effect": "Allow", "Action": "ecr:PutImage",
            "Principal": {"AWS": "arn:aws:iam::000000000000:user/bob"}}}"#;
        let files = files(user, &[("users/bob.json", "{}"), ("repositories/app.json", open)]);
        let circumstances = Circumstances { region: &"us-east-1".parse().unwrap(), now_ms: 0 };
        let found = who_can(&files, "ecr:PutImage", "repository/app", &circumstances).unwrap();
        let told: Vec<_> = found
            .iter()
            .map(|who| (who.principal.as_str(), who.sid.as_deref(), who.needs.as_slice()))
            .collect();
        let needs = ["aws:SourceIp".to_owned()];
        assert_eq!(
            told,
            [
                ("arn:aws:iam::000000000000:user/alice", None, &needs[..]),
                ("arn:aws:iam::000000000000:user/bob", Some("Open"), &[]),
            ]
        );
        assert_eq!(who_can(&files, "ecr:PutImage", "repository/other", &circumstances).unwrap().len(), 1);
        assert!(who_can(&files, "ecr:PutImage", "nonsense", &circumstances).is_err());
    }

    #[test]
    fn a_change_of_files_tells_whom_it_opens_and_closes_what() {
        let (push, pull) = (policy("Allow", "ecr:PutImage", "*"), policy("Allow", "ecr:BatchGetImage", "*"));
        let user = r#"{"policies": ["p"]}"#;
        let old = files(user, &[("policies/p.json", &push), ("users/gone.json", user)]);
        let new = files(user, &[("policies/p.json", &pull)]);
        let circumstances = Circumstances { region: &"us-east-1".parse().unwrap(), now_ms: 0 };
        let changes = diff(&old, &new, &["app".parse().unwrap()], &circumstances).unwrap();
        let app = "arn:aws:ecr:us-east-1:000000000000:repository/app";
        let of = |principal: &str| {
            let principal = format!("arn:aws:iam::000000000000:user/{principal}");
            let found = changes.iter().find(|change| change.principal == principal && change.resource == app);
            found.map(|change| (change.newly_allowed.join(" "), change.newly_denied.join(" ")))
        };
        assert_eq!(of("alice"), Some(("ecr:BatchGetImage".to_owned(), "ecr:PutImage".to_owned())));
        assert_eq!(of("gone"), Some((String::new(), "ecr:PutImage".to_owned())));
        assert_eq!(diff(&new, &new, &[], &circumstances).unwrap(), []);
    }
}
