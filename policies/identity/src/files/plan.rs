//! The changes between what the tables hold and what a set of files says. Pure but for new ids.
//!
//! Whoever stays keeps its uid, and with it its sessions. A name that the IAM API owns is never taken over.

use std::collections::{BTreeSet, HashMap, HashSet};

use policies::{Finding, PolicyKind, Severity};
use registry_runtime::{Sealer, SecretString};
use registry_types::{AccountId, Arn, Region};

use super::finding::FileFinding;
use super::model::{ControlFile, InlinePolicy, PolicyFiles, UserFile};
use crate::credentials::AccessKey;
use crate::first_start::seal_key;
use crate::store::files::{Change, Stored, StoredKey, StoredPrincipal};
use crate::store::policies::NewManagedPolicy;
use crate::store::principals::{NewGroup, NewRole, NewUser, tags_text};
use crate::store::providers::ProviderRow;
use crate::store::{Level, Owner, keys};
use crate::unique_id;

/// What a plan is made with, beside the files and the tables.
pub(super) struct Means<'a> {
    pub(super) account: &'a AccountId,
    pub(super) region: &'a Region,
    pub(super) sealer: &'a Sealer,
    /// Of every access key, in the order of the users and their keys.
    pub(super) secrets: &'a [SecretString],
}

struct Planner<'a> {
    files: &'a PolicyFiles,
    stored: &'a Stored,
    means: &'a Means<'a>,
    deletes: Vec<Change>,
    changes: Vec<Change>,
    findings: Vec<FileFinding>,
    /// Uids of the principals that stay or come, by folded name.
    groups: HashMap<String, String>,
}

/// The changes in an order in which they can be made.
pub(super) fn plan(
    files: &PolicyFiles,
    stored: &Stored,
    means: &Means<'_>,
) -> Result<Vec<Change>, Vec<FileFinding>> {
    let mut planner = Planner {
        files,
        stored,
        means,
        deletes: Vec::new(),
        changes: Vec::new(),
        findings: Vec::new(),
        groups: HashMap::new(),
    };
    planner.policies();
    planner.groups();
    planner.users();
    planner.roles();
    planner.resources();
    planner.providers();
    if !planner.findings.is_empty() {
        return Err(planner.findings);
    }
    planner.deletes.append(&mut planner.changes);
    Ok(planner.deletes)
}

const FILES: &str = "files";

impl Planner<'_> {
    fn policies(&mut self) {
        let wanted: HashMap<String, &str> = self
            .files
            .policies
            .iter()
            .map(|file| (self.files.key(&file.account, &file.name), file.arn.as_str()))
            .collect();
        for (name, stored) in &self.stored.policies {
            // A policy that moves to another path is another policy.
            if stored.owner == FILES && wanted.get(name) != Some(&stored.arn.as_str()) {
                self.deletes.push(Change::DeletePolicy(stored.arn.clone()));
                self.keep_what_others_use(&stored.arn, &stored.name);
            }
        }
        for file in &self.files.policies {
            match self.stored.policies.get(&self.files.key(&file.account, &file.name)) {
                Some(stored) if stored.owner != FILES => self.taken(&file.file, "policy", &stored.name),
                Some(stored) if stored.arn == file.arn => {
                    if stored.document != file.document {
                        let (arn, document) = (file.arn.clone(), file.document.clone());
                        self.changes.push(Change::UpdatePolicy { arn, document });
                    }
                }
                _ => self.changes.push(Change::InsertPolicy(NewManagedPolicy {
                    arn: file.arn.clone(),
                    uid: unique_id::managed_policy(),
                    name: file.name.clone(),
                    path: file.path.clone(),
                    document: file.document.clone(),
                    owner: Owner::Files,
                    foreign: self.files.foreign(&file.account).cloned(),
                })),
            }
        }
    }

    /// A policy that somebody outside the files is attached to, or bounded by, cannot be taken away: it may
    /// hold a Deny.
    fn keep_what_others_use(&mut self, arn: &str, name: &str) {
        let principals =
            [("user", &self.stored.users), ("group", &self.stored.groups), ("role", &self.stored.roles)];
        for (kind, stored) in principals {
            for principal in stored.values().filter(|principal| principal.owner != FILES) {
                let attachment = (principal.uid.clone(), arn.to_owned());
                let used = principal.boundary.as_deref() == Some(arn)
                    || self.stored.attachments.contains(&attachment);
                if used {
                    let message = format!(
                        "the policy {name:?} is gone from the files, but the {kind} {:?} still uses it: detach it first",
                        principal.name
                    );
                    self.findings.push(FileFinding::whole(super::scan::MARKER, message));
                }
            }
        }
    }

    /// Nor a group that the API put somebody into.
    fn keep_where_others_are(&mut self, uid: &str) {
        let name =
            self.stored.groups.values().find(|group| group.uid == uid).map_or(uid, |group| &group.name);
        for (user, _) in self.stored.other_memberships.iter().filter(|(_, group)| group == uid) {
            let user =
                self.stored.users.values().find(|one| one.uid == *user).map_or(&**user, |one| &one.name);
            let message = format!(
                "the group {name:?} is gone from the files, but the user {user:?} is still in it: take it out first"
            );
            self.findings.push(FileFinding::whole(super::scan::MARKER, message));
        }
    }

    fn groups(&mut self) {
        let wanted: HashSet<String> =
            self.files.groups.iter().map(|file| self.files.key(&file.account, &file.name)).collect();
        for uid in gone(&self.stored.groups, &wanted) {
            self.keep_where_others_are(&uid);
            self.deletes.push(Change::DeleteGroup(uid));
        }
        for file in &self.files.groups {
            let key = self.files.key(&file.account, &file.name);
            let known = match self.stored.groups.get(&key) {
                Some(stored) if stored.owner != FILES => {
                    self.taken(&file.file, "group", &stored.name);
                    continue;
                }
                known => known,
            };
            let group = NewGroup {
                uid: known.map_or_else(unique_id::group, |known| known.uid.clone()),
                name: file.name.clone(),
                path: file.path.clone(),
                owner: Owner::Files,
                foreign: self.files.foreign(&file.account).cloned(),
            };
            let uid = group.uid.clone();
            match known {
                None => self.changes.push(Change::InsertGroup(group)),
                Some(known) if known.name != file.name || known.path != file.path => {
                    self.changes.push(Change::UpdateGroup(group));
                }
                Some(_) => {}
            }
            self.rights(&uid, &file.attached, &file.inline);
            self.groups.insert(key, uid);
        }
    }

    fn users(&mut self) {
        let wanted: HashSet<String> =
            self.files.users.iter().map(|file| self.files.key(&file.account, &file.name)).collect();
        self.deletes.extend(gone(&self.stored.users, &wanted).map(Change::DeleteUser));
        let mut secrets = self.means.secrets.iter();
        let mut kept_keys = HashSet::new();
        for file in &self.files.users {
            let secrets: Vec<&SecretString> = secrets.by_ref().take(file.access_keys.len()).collect();
            let known = match self.stored.users.get(&self.files.key(&file.account, &file.name)) {
                Some(stored) if stored.owner != FILES => {
                    self.taken(&file.file, "user", &stored.name);
                    continue;
                }
                known => known,
            };
            let user = NewUser {
                uid: known.map_or_else(unique_id::user, |known| known.uid.clone()),
                name: file.name.clone(),
                path: file.path.clone(),
                boundary: file.boundary.clone(),
                tags: file.tags.clone(),
                owner: Owner::Files,
                foreign: self.files.foreign(&file.account).cloned(),
            };
            let uid = user.uid.clone();
            match known {
                None => self.changes.push(Change::InsertUser(user)),
                Some(known) if differs(known, &user.name, &user.path, user.boundary.as_ref(), &user.tags) => {
                    self.changes.push(Change::UpdateUser(user));
                }
                Some(_) => {}
            }
            self.rights(&uid, &file.attached, &file.inline);
            self.memberships(&uid, file);
            self.keys(&uid, file, &secrets);
            kept_keys.extend(file.access_keys.iter().map(|key| key.access_key_id.as_str()));
        }
        for (id, key) in &self.stored.keys {
            if key.owner == FILES && !kept_keys.contains(id.as_str()) {
                self.deletes.push(Change::DeleteKey(id.clone()));
            }
        }
    }

    fn keys(&mut self, user_uid: &str, file: &UserFile, secrets: &[&SecretString]) {
        for (key, secret) in file.access_keys.iter().zip(secrets) {
            let id = &key.access_key_id;
            let known = match self.stored.keys.get(id) {
                Some(stored) if stored.owner != FILES => {
                    let (line, column) = key.place;
                    let message = format!("the access key {id} exists already, outside the policy files");
                    let finding = Finding { line, column, severity: Severity::Error, message };
                    self.findings.push(FileFinding { file: file.file.clone(), finding });
                    continue;
                }
                Some(stored) if stored.user_uid != user_uid => {
                    self.deletes.push(Change::DeleteKey(id.clone()));
                    None
                }
                known => known,
            };
            match known {
                None => {
                    let key_and_secret =
                        AccessKey { access_key_id: id.clone(), secret_access_key: (*secret).clone() };
                    let row = seal_key(self.means.sealer, &key_and_secret, user_uid, Owner::Files);
                    self.changes.push(Change::InsertKey { key: row, active: key.active });
                }
                Some(stored) => {
                    if !self.holds(id, stored, secret) {
                        let version = stored.row_version + 1;
                        let bytes = version.to_be_bytes();
                        let aad = keys::aad(id, user_uid, &bytes);
                        let secret =
                            self.means.sealer.seal(keys::SECRET_COLUMN, &aad, secret.expose().as_bytes());
                        self.changes.push(Change::ReplaceSecret {
                            access_key_id: id.clone(),
                            secret,
                            version,
                        });
                    }
                    if stored.active != key.active {
                        let (access_key_id, active) = (id.clone(), key.active);
                        self.changes.push(Change::SetKeyActive { access_key_id, active });
                    }
                }
            }
        }
    }

    /// Whether a stored key has this secret. One that does not open is replaced.
    fn holds(&self, id: &str, stored: &StoredKey, secret: &SecretString) -> bool {
        let version = stored.row_version.to_be_bytes();
        let aad = keys::aad(id, &stored.user_uid, &version);
        let opened = self.means.sealer.open(keys::SECRET_COLUMN, &aad, &stored.secret);
        opened.ok().and_then(|opened| opened.to_secret_string()).is_some_and(|opened| opened == *secret)
    }

    fn memberships(&mut self, user_uid: &str, file: &UserFile) {
        let wanted: BTreeSet<String> = file
            .groups
            .iter()
            .filter_map(|group| self.groups.get(&self.files.key(&file.account, group)).cloned())
            .collect();
        let known: BTreeSet<String> = self
            .stored
            .memberships
            .iter()
            .filter(|(user, _)| user == user_uid)
            .map(|(_, group)| group.clone())
            .collect();
        let change = |group: &String| (user_uid.to_owned(), group.clone());
        for (user, group) in known.difference(&wanted).map(change) {
            self.deletes.push(Change::Leave { user, group });
        }
        for (user, group) in wanted.difference(&known).map(change) {
            self.changes.push(Change::Join { user, group });
        }
    }

    fn roles(&mut self) {
        let wanted: HashSet<String> =
            self.files.roles.iter().map(|file| self.files.key(&file.account, &file.name)).collect();
        self.deletes.extend(gone(&self.stored.roles, &wanted).map(Change::DeleteRole));
        for file in &self.files.roles {
            let known = match self.stored.roles.get(&self.files.key(&file.account, &file.name)) {
                Some(stored) if stored.owner != FILES => {
                    self.taken(&file.file, "role", &stored.name);
                    continue;
                }
                known => known,
            };
            let role = NewRole {
                uid: known.map_or_else(unique_id::role, |known| known.uid.clone()),
                name: file.name.clone(),
                path: file.path.clone(),
                description: file.description.clone(),
                trust_policy: file.trust_policy.document.clone(),
                max_session_s: file.max_session_s,
                boundary: file.boundary.clone(),
                tags: file.tags.clone(),
                owner: Owner::Files,
                foreign: self.files.foreign(&file.account).cloned(),
            };
            let uid = role.uid.clone();
            match known {
                None => self.changes.push(Change::InsertRole(role)),
                Some(known) => {
                    let trust_changed = known.trust_policy != role.trust_policy;
                    let changed = trust_changed
                        || known.description != role.description
                        || known.max_session_s != role.max_session_s
                        || differs(known, &role.name, &role.path, role.boundary.as_ref(), &role.tags);
                    if changed {
                        self.changes.push(Change::UpdateRole(role, trust_changed));
                    }
                }
            }
            self.rights(&uid, &file.attached, &file.inline);
        }
    }

    fn rights(&mut self, uid: &str, attached: &[String], inline: &[InlinePolicy]) {
        let wanted: BTreeSet<&str> = attached.iter().map(String::as_str).collect();
        let known = self.stored.attachments.iter().filter(|(principal, _)| principal == uid);
        let known: BTreeSet<&str> = known.map(|(_, arn)| arn.as_str()).collect();
        let change = |arn: &&str| (uid.to_owned(), (*arn).to_owned());
        for (principal, arn) in known.difference(&wanted).map(change) {
            self.deletes.push(Change::Detach { principal, arn });
        }
        for (principal, arn) in wanted.difference(&known).map(change) {
            self.changes.push(Change::Attach { principal, arn });
        }
        for (principal, name) in self.stored.inline.keys() {
            if principal == uid && !inline.iter().any(|inline| inline.name == *name) {
                let (principal, name) = (principal.clone(), name.clone());
                self.deletes.push(Change::DeleteInline { principal, name });
            }
        }
        for inline in inline {
            let key = (uid.to_owned(), inline.name.clone());
            if self.stored.inline.get(&key) != Some(&inline.document) {
                let (principal, name) = key;
                self.changes.push(Change::PutInline { principal, name, document: inline.document.clone() });
            }
        }
    }

    /// Policies of repositories, and of levels of the organisation.
    fn resources(&mut self) {
        let mut wanted = HashSet::new();
        let repositories = self.files.repositories.iter().map(|file| {
            let resource = format!("repository/{}", file.repository);
            let arn = Arn::new("ecr", self.means.region, self.means.account, &resource).to_string();
            (arn, &file.file, &file.document)
        });
        let control = |kind: PolicyKind| {
            move |file: &'_ ControlFile| Level::new(kind, &file.account, &file.level).to_string()
        };
        let (service, resource) = (control(PolicyKind::ServiceControl), control(PolicyKind::ResourceControl));
        let service =
            self.files.service_control.iter().map(|file| (service(file), &file.file, &file.document));
        let resource =
            self.files.resource_control.iter().map(|file| (resource(file), &file.file, &file.document));
        for (resource, file, document) in repositories.chain(service).chain(resource) {
            let key = (resource, file.clone());
            if self.stored.resources.get(&key) != Some(document) {
                let (resource, name) = key.clone();
                self.changes.push(Change::PutResource { resource, name, document: document.clone() });
            }
            wanted.insert(key);
        }
        for (resource, name) in self.stored.resources.keys() {
            let key = (resource.clone(), name.clone());
            if !wanted.contains(&key) {
                let (resource, name) = key;
                self.deletes.push(Change::DeleteResource { resource, name });
            }
        }
    }

    /// OIDC providers. Less trust ends what was made with it.
    fn providers(&mut self) {
        for file in &self.files.providers {
            let known = match self.stored.providers.get(&file.name) {
                Some(stored) if stored.owner != Owner::Files => {
                    self.taken(&file.file, "OIDC provider", &stored.name);
                    continue;
                }
                known => known,
            };
            let less =
                known.is_some_and(|known| known.client_ids.iter().any(|id| !file.client_ids.contains(id)));
            let row = ProviderRow {
                name: file.name.clone(),
                uid: known.map_or_else(unique_id::oidc_provider, |known| known.uid.clone()),
                client_ids: file.client_ids.clone(),
                thumbprints: file.thumbprints.clone(),
                tags: file.tags.clone(),
                created_ms: known.map_or(0, |known| known.created_ms),
                generation: known.map_or(1, |known| known.generation + i64::from(less)),
                owner: Owner::Files,
            };
            let same = known.is_some_and(|known| {
                known.client_ids == row.client_ids
                    && known.thumbprints == row.thumbprints
                    && tags_text(&known.tags) == tags_text(&row.tags)
            });
            if !same {
                self.changes.push(Change::PutProvider(row));
            }
        }
        let wanted: HashSet<&str> = self.files.providers.iter().map(|file| file.name.as_str()).collect();
        let gone = self.stored.providers.values();
        let gone = gone.filter(|row| row.owner == Owner::Files && !wanted.contains(row.name.as_str()));
        self.deletes.extend(gone.map(|row| Change::DeleteProvider(row.name.clone())));
    }

    fn taken(&mut self, file: &str, kind: &str, name: &str) {
        let message =
            format!("the {kind} {name:?} exists already, outside the policy files: delete it there first");
        self.findings.push(FileFinding::whole(file, message));
    }
}

fn gone(stored: &HashMap<String, StoredPrincipal>, wanted: &HashSet<String>) -> impl Iterator<Item = String> {
    let gone = stored.iter().filter(|(name, stored)| stored.owner == FILES && !wanted.contains(*name));
    gone.map(|(_, stored)| stored.uid.clone())
}

fn differs(
    known: &StoredPrincipal,
    name: &str,
    path: &str,
    boundary: Option<&String>,
    tags: &[(String, String)],
) -> bool {
    known.name != name
        || known.path != path
        || known.boundary.as_ref() != boundary
        || known.tags != tags_text(tags)
}
