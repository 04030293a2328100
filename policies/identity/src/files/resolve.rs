//! What files say about each other: names that must be unique, references that must lead somewhere.

use std::collections::HashMap;

use policies::{Finding, Severity, managed};
use registry_types::AccountId;

use super::check::{Raw, RawSet};
use super::fields::Placed;
use super::finding::FileFinding;
use super::model::{GroupFile, KeyFile, RoleFile, UserFile, place};
use super::overlap::{self, Outlined};
use super::read::{RawRole, RawUser, Rights, Source};

pub(super) struct Resolver {
    /// Names of groups by account and folded name, as they are written.
    groups: HashMap<(AccountId, String), String>,
    /// Policies of this set by account and folded name: name and ARN.
    policies: HashMap<(AccountId, String), (String, String)>,
    /// What the policies of this set say, by ARN.
    outlines: HashMap<String, Outlined>,
}

/// What the references of a principal lead to.
#[derive(Default)]
pub(super) struct Resolved {
    attached: Vec<String>,
    boundary: Option<String>,
    groups: Vec<String>,
}

type Lists = (Vec<Resolved>, Vec<Resolved>, Vec<Resolved>);

impl Resolver {
    /// Collects names, reporting those that stand twice.
    pub(super) fn new(set: &RawSet<'_>, findings: &mut Vec<FileFinding>) -> Resolver {
        unique(
            "user",
            set.users.iter().map(|raw| (raw.source.file, &raw.account, raw.name.as_str())),
            findings,
        );
        unique(
            "role",
            set.roles.iter().map(|raw| (raw.source.file, &raw.account, raw.name.as_str())),
            findings,
        );
        unique(
            "group",
            set.groups.iter().map(|raw| (raw.source.file, &raw.account, raw.name.as_str())),
            findings,
        );
        let policies = set.policies.iter();
        unique(
            "policy",
            policies.map(|file| (file.file.as_str(), &file.account, file.name.as_str())),
            findings,
        );
        unique_keys(set, findings);
        for policy in &set.policies {
            if managed::by_name(&policy.name).is_some() {
                let message = format!("Berth ships a policy {:?}: choose another name", policy.name);
                findings.push(FileFinding::whole(&policy.file, message));
            }
        }
        let groups = set.groups.iter();
        let groups = groups.map(|raw| (folded(&raw.account, &raw.name), raw.name.clone())).collect();
        let policies = set.policies.iter();
        let policies = policies
            .map(|file| (folded(&file.account, &file.name), (file.name.clone(), file.arn.clone())))
            .collect();
        let outlines =
            set.policies.iter().map(|file| (file.arn.clone(), Outlined::of(&file.file, &file.document)));
        Resolver { groups, policies, outlines: outlines.collect() }
    }

    pub(super) fn resolve(&self, set: &RawSet<'_>, findings: &mut Vec<FileFinding>) -> Lists {
        let users = set.users.iter().map(|raw| {
            let mut resolved =
                self.rights(raw.place(), &raw.content.rights, raw.content.boundary.as_ref(), findings);
            for group in &raw.content.groups {
                match self.groups.get(&folded(&raw.account, &group.text)) {
                    Some(name) if *name == group.text => resolved.groups.push(name.clone()),
                    Some(name) => {
                        report(&raw.source, group, format!("the group is written {name:?}"), findings)
                    }
                    None => report(
                        &raw.source,
                        group,
                        format!("there is no groups/…/{}.json", group.text),
                        findings,
                    ),
                }
            }
            resolved
        });
        let users = users.collect();
        let groups =
            set.groups.iter().map(|raw| self.rights(raw.place(), &raw.content, None, findings)).collect();
        let roles = set.roles.iter();
        let roles = roles
            .map(|raw| self.rights(raw.place(), &raw.content.rights, raw.content.boundary.as_ref(), findings))
            .collect();
        (users, groups, roles)
    }

    fn rights(
        &self,
        (source, account): (&Source<'_>, &AccountId),
        rights: &Rights,
        boundary: Option<&Placed>,
        findings: &mut Vec<FileFinding>,
    ) -> Resolved {
        let mut resolved = Resolved::default();
        for policy in &rights.policies {
            if let Some(arn) = self.policy((source, account), policy, findings) {
                if resolved.attached.contains(&arn) {
                    report(source, policy, "the same policy stands here twice".to_owned(), findings);
                }
                resolved.attached.push(arn);
            }
        }
        overlap::review(source, rights, &resolved.attached, &self.outlines, findings);
        resolved.boundary = boundary.and_then(|policy| self.policy((source, account), policy, findings));
        resolved
    }

    /// The ARN of a policy that is named by its ARN, or by its bare name.
    fn policy(
        &self,
        (source, account): (&Source<'_>, &AccountId),
        named: &Placed,
        findings: &mut Vec<FileFinding>,
    ) -> Option<String> {
        let text = named.text.as_str();
        if text.starts_with("arn:") {
            let mut own = self.policies.iter().filter(|((of, _), _)| of == account);
            let known = managed::by_arn(text).is_some() || own.any(|(_, (_, arn))| arn == text);
            if !known {
                report(
                    source,
                    named,
                    "no file of policies/ and no shipped policy has this ARN".to_owned(),
                    findings,
                );
            }
            return known.then(|| text.to_owned());
        }
        let own = self.policies.get(&folded(account, text)).map(|(name, arn)| (name.as_str(), arn.as_str()));
        let shipped = managed::by_name(text).map(|policy| (policy.name, policy.arn));
        match own.or(shipped) {
            Some((name, arn)) if name == text => Some(arn.to_owned()),
            Some((name, _)) => {
                report(source, named, format!("the policy is written {name:?}"), findings);
                None
            }
            None => {
                let message =
                    format!("there is no policies/…/{text}.json, and Berth ships no policy of that name");
                report(source, named, message, findings);
                None
            }
        }
    }
}

fn folded(account: &AccountId, name: &str) -> (AccountId, String) {
    (account.clone(), name.to_lowercase())
}

impl<T> Raw<'_, T> {
    fn place(&self) -> (&Source<'_>, &AccountId) {
        (&self.source, &self.account)
    }
}

fn report(source: &Source<'_>, placed: &Placed, message: String, findings: &mut Vec<FileFinding>) {
    let (line, column) = place(source.text, placed.at);
    let finding = Finding { line, column, severity: Severity::Error, message };
    findings.push(FileFinding { file: source.file.to_owned(), finding });
}

/// IAM compares names without case.
fn unique<'a>(
    what: &str,
    names: impl Iterator<Item = (&'a str, &'a AccountId, &'a str)>,
    findings: &mut Vec<FileFinding>,
) {
    let mut seen: HashMap<(AccountId, String), &str> = HashMap::new();
    for (file, account, name) in names {
        if let Some(earlier) = seen.insert(folded(account, name), file) {
            findings
                .push(FileFinding::whole(file, format!("a second {what} {name:?}: the other is {earlier}")));
        }
    }
}

fn unique_keys(set: &RawSet<'_>, findings: &mut Vec<FileFinding>) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for raw in &set.users {
        for key in &raw.content.keys {
            if let Some(earlier) = seen.insert(&key.access_key_id.text, raw.source.file) {
                let message = format!("this access key id stands in {earlier} already");
                report(&raw.source, &key.access_key_id, message, findings);
            }
        }
    }
}

pub(super) fn finish_users(resolved: Vec<Resolved>, raw: Vec<Raw<'_, RawUser>>) -> Vec<UserFile> {
    let finish = |(resolved, raw): (Resolved, Raw<'_, RawUser>)| UserFile {
        file: raw.source.file.to_owned(),
        account: raw.account,
        name: raw.name,
        path: raw.path,
        groups: resolved.groups,
        attached: resolved.attached,
        inline: raw.content.rights.inline,
        boundary: resolved.boundary,
        tags: raw.content.tags,
        access_keys: raw
            .content
            .keys
            .into_iter()
            .map(|key| KeyFile {
                access_key_id: key.access_key_id.text,
                secret: key.secret,
                active: key.active,
                place: key.place,
            })
            .collect(),
    };
    resolved.into_iter().zip(raw).map(finish).collect()
}

pub(super) fn finish_groups(resolved: Vec<Resolved>, raw: Vec<Raw<'_, Rights>>) -> Vec<GroupFile> {
    let finish = |(resolved, raw): (Resolved, Raw<'_, Rights>)| GroupFile {
        file: raw.source.file.to_owned(),
        account: raw.account,
        name: raw.name,
        path: raw.path,
        attached: resolved.attached,
        inline: raw.content.inline,
    };
    resolved.into_iter().zip(raw).map(finish).collect()
}

pub(super) fn finish_roles(resolved: Vec<Resolved>, raw: Vec<Raw<'_, RawRole>>) -> Vec<RoleFile> {
    let finish = |(resolved, raw): (Resolved, Raw<'_, RawRole>)| RoleFile {
        file: raw.source.file.to_owned(),
        account: raw.account,
        name: raw.name,
        path: raw.path,
        description: raw.content.description,
        trust_policy: raw.content.trust_policy,
        max_session_s: raw.content.max_session_s,
        attached: resolved.attached,
        inline: raw.content.rights.inline,
        boundary: resolved.boundary,
        tags: raw.content.tags,
    };
    resolved.into_iter().zip(raw).map(finish).collect()
}
