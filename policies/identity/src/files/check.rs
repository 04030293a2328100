//! The check of a whole directory: every error, each with file, line and column.

use std::path::Path;
use std::sync::Arc;

use policies::json::{self, Node};
use policies::{Findings, Policy, PolicyKind};
use registry_types::{AccountId, RepositoryName};
use sha2::{Digest, Sha256};

use super::fields::Fields;
use super::finding::{FileFinding, about};
use super::model::{ControlFile, ManagedFile, PolicyFiles, ProviderFile, RepositoryFile};
use super::read::{self, RawRole, RawUser, Rights, Source};
use super::resolve::{self, Resolver};
use super::scan::{self, MARKER, Texts};

/// The only format there is.
const FORMAT: i64 = 1;

/// What was read of one principal, before its references are looked at.
pub(super) struct Raw<'t, T> {
    pub(super) source: Source<'t>,
    pub(super) account: AccountId,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) content: T,
}

/// Everything that was read, file by file.
#[derive(Default)]
pub(super) struct RawSet<'t> {
    pub(super) users: Vec<Raw<'t, RawUser>>,
    pub(super) groups: Vec<Raw<'t, Rights>>,
    pub(super) roles: Vec<Raw<'t, RawRole>>,
    pub(super) policies: Vec<ManagedFile>,
    pub(super) repositories: Vec<RepositoryFile>,
    pub(super) service_control: Vec<ControlFile>,
    pub(super) resource_control: Vec<ControlFile>,
    pub(super) providers: Vec<ProviderFile>,
}

/// Checks a directory. Blocks on the disk; reads no secret.
///
/// # Errors
/// Every finding, errors and warnings, by file and place, when at least one is an error.
pub fn check(directory: &Path) -> Result<PolicyFiles, Vec<FileFinding>> {
    let texts = scan::read(directory)?;
    // Secrets named relative to the directory keep whole paths.
    let root = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    check_set(&texts, Some(&root))
}

/// Checks texts that were read before, by their relative names; where secrets lie is not looked at.
///
/// # Errors
/// As [`check`].
pub fn check_texts(texts: &Texts) -> Result<PolicyFiles, Vec<FileFinding>> {
    check_set(texts, None)
}

fn check_set(texts: &Texts, root: Option<&Path>) -> Result<PolicyFiles, Vec<FileFinding>> {
    let mut checker = Checker { root, findings: Vec::new(), set: RawSet::default(), account: None };
    let Some(marker) = texts.get(MARKER) else {
        return Err(vec![FileFinding::whole(MARKER, "is missing: without it this is no policy directory")]);
    };
    checker.marker(marker);
    let account = checker.account.take();
    // Findings count also while the account is unknown; nothing is published then.
    let home = account.clone().unwrap_or_else(|| "000000000000".parse().expect("twelve digits"));
    for (file, text) in texts.iter().filter(|(file, _)| *file != MARKER) {
        checker.file(file, text, &home);
    }
    let Checker { mut findings, set, .. } = checker;
    // References mean little while the account is unknown or names stand twice.
    let resolved = account.map(|account| {
        let resolver = Resolver::new(&set, &mut findings);
        let (users, groups, roles) = resolver.resolve(&set, &mut findings);
        (account, users, groups, roles)
    });
    findings.sort();
    findings.dedup();
    match resolved {
        Some((account, users, groups, roles)) if !findings.iter().any(FileFinding::is_error) => {
            Ok(PolicyFiles {
                account,
                users: resolve::finish_users(users, set.users),
                groups: resolve::finish_groups(groups, set.groups),
                roles: resolve::finish_roles(roles, set.roles),
                policies: set.policies,
                repositories: set.repositories,
                service_control: set.service_control,
                resource_control: set.resource_control,
                providers: set.providers,
                warnings: findings,
                content_sha256: content_sha256(texts),
                texts: serde_json::to_string(texts).expect("texts are strings under strings"),
            })
        }
        _ => Err(findings),
    }
}

fn content_sha256(texts: &Texts) -> String {
    let mut hash = Sha256::new();
    for (file, text) in texts {
        for part in [file, text] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    hex::encode(hash.finalize())
}

struct Checker<'t, 'r> {
    root: Option<&'r Path>,
    findings: Vec<FileFinding>,
    set: RawSet<'t>,
    account: Option<AccountId>,
}

impl<'t> Checker<'t, '_> {
    fn marker(&mut self, text: &str) {
        let mut findings = Findings::new(text);
        if let Some(node) = json::read(text, &mut findings)
            && let Some(mut fields) = Fields::of(&node, MARKER, &mut findings)
        {
            if let Some(node) = fields.required("format")
                && fields.integer("format").is_some_and(|(format, _)| format != FORMAT)
            {
                fields.findings.error(node.start, format!("this Berth reads format {FORMAT}"));
            }
            if let Some(account) = fields.required_string("account") {
                match account.text.parse() {
                    Ok(parsed) => self.account = Some(parsed),
                    Err(_) => fields.findings.error(account.at, "an account is twelve digits, in quotes"),
                }
            }
            fields.finish();
        }
        self.findings.extend(about(MARKER, findings.into_sorted()));
    }

    fn file(&mut self, file: &'t str, text: &'t str, home: &AccountId) {
        let mut findings = Findings::new(text);
        let source = Source { file, text };
        match Place::of(file, home) {
            Ok(place) => {
                if let Some(node) = json::read(text, &mut findings) {
                    self.placed(&place, source, &node, &mut findings);
                }
            }
            Err(message) => self.findings.push(FileFinding::whole(file, message)),
        }
        self.findings.extend(about(file, findings.into_sorted()));
    }

    fn placed(&mut self, place: &Place<'t>, source: Source<'t>, node: &Node, findings: &mut Findings<'_>) {
        let account = place.account.clone();
        let named =
            |longest: usize, findings: &mut Findings<'_>| path_and_name(place.name, longest, findings);
        match place.folder {
            Folder::Users => {
                let (path, name) = named(64, findings);
                if let Some(content) = read::user(&source, self.root, node, findings) {
                    self.set.users.push(Raw { source, account, name, path, content });
                }
            }
            Folder::Groups => {
                let (path, name) = named(128, findings);
                if let Some(content) = read::group(&source, node, findings) {
                    self.set.groups.push(Raw { source, account, name, path, content });
                }
            }
            Folder::Roles => {
                let (path, name) = named(64, findings);
                if let Some(content) = read::role(&source, node, findings) {
                    self.set.roles.push(Raw { source, account, name, path, content });
                }
            }
            Folder::Policies => {
                let (path, name) = named(128, findings);
                self.managed(&source, account, (path, name), node, findings);
            }
            Folder::Repositories => self.repository(&source, place.name, node, findings),
            Folder::ServiceControl => {
                let control = control(&source, place, PolicyKind::ServiceControl, node, findings);
                self.set.service_control.extend(control);
            }
            Folder::OidcProviders => {
                if let Some(provider) = read::provider(&source, node, findings) {
                    let other = self.set.providers.iter().find(|other| other.name == provider.name);
                    if let Some(other) = other {
                        findings.error(
                            node.start,
                            format!("the provider of {} stands in {} already", other.name, other.file),
                        );
                    }
                    self.set.providers.push(provider);
                }
            }
            Folder::ResourceControl => {
                let control = control(&source, place, PolicyKind::ResourceControl, node, findings);
                self.set.resource_control.extend(control);
            }
        }
    }

    fn managed(
        &mut self,
        source: &Source<'t>,
        account: AccountId,
        (path, name): (String, String),
        node: &Node,
        findings: &mut Findings<'_>,
    ) {
        // A managed policy may serve as a boundary too: the smaller quota of the two holds.
        let limit = PolicyKind::Boundary.size_limit();
        let Some(inline) = read::document(source, node, PolicyKind::Identity, &name, findings) else {
            return;
        };
        let size = inline.policy.size();
        if size > limit {
            let message =
                format!("a policy has at most {limit} characters without white space; this one has {size}");
            findings.error(node.start, message);
        }
        let arn = format!("arn:aws:iam::{account}:policy{path}{name}");
        self.set.policies.push(ManagedFile {
            file: source.file.to_owned(),
            account,
            name,
            path,
            arn,
            document: inline.document,
            policy: inline.policy,
        });
    }

    fn repository(&mut self, source: &Source<'t>, name: &str, node: &Node, findings: &mut Findings<'_>) {
        let repository: Option<RepositoryName> = name.parse().ok();
        if repository.is_none() {
            findings.error(0, format!("{name:?} is not the name of a repository"));
        }
        let document = read::document(source, node, PolicyKind::RepositoryPolicy, name, findings);
        if let (Some(repository), Some(inline)) = (repository, document) {
            let policy: Arc<Policy> = inline.policy;
            let file = source.file.to_owned();
            self.set.repositories.push(RepositoryFile {
                file,
                repository,
                document: inline.document,
                policy,
            });
        }
    }
}

/// What a file is, by where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Folder {
    Users,
    Groups,
    Roles,
    Policies,
    Repositories,
    ServiceControl,
    ResourceControl,
    OidcProviders,
}

struct Place<'t> {
    account: AccountId,
    folder: Folder,
    /// Relative to the folder, without `.json`.
    name: &'t str,
}

impl<'t> Place<'t> {
    fn of(file: &'t str, home: &AccountId) -> Result<Place<'t>, String> {
        let (first, rest) = file.split_once('/').unwrap_or(("", file));
        let (account, first, rest) = match first {
            "accounts" => {
                let (account, below) = rest.split_once('/').unwrap_or((rest, ""));
                let account: AccountId = account.parse().map_err(|_| {
                    format!("accounts/{account} is not named by the twelve digits of an account")
                })?;
                if account == *home {
                    return Err(format!(
                        "{account} is the account of this directory: it has no folder of its own"
                    ));
                }
                let (first, rest) = below.split_once('/').unwrap_or(("", below));
                (account, first, rest)
            }
            _ => (home.clone(), first, rest),
        };
        let foreign = account != *home;
        let folder = match first {
            "users" => Folder::Users,
            "groups" => Folder::Groups,
            "roles" => Folder::Roles,
            "policies" => Folder::Policies,
            "serviceControlPolicies" => Folder::ServiceControl,
            "repositories" | "resourceControlPolicies" | "oidcProviders" if foreign => {
                return Err("another account owns nothing here that such a policy could be about".to_owned());
            }
            "repositories" => Folder::Repositories,
            "resourceControlPolicies" => Folder::ResourceControl,
            "oidcProviders" => Folder::OidcProviders,
            _ => {
                return Err(
                    "belongs to no folder that Berth knows: users, groups, roles, policies, repositories, \
                            serviceControlPolicies, resourceControlPolicies, oidcProviders, accounts"
                        .to_owned(),
                );
            }
        };
        Ok(Place { account, folder, name: rest.strip_suffix(".json").unwrap_or(rest) })
    }
}

/// A control policy: `LEVEL/NAME`.
fn control(
    source: &Source<'_>,
    place: &Place<'_>,
    kind: PolicyKind,
    node: &Node,
    findings: &mut Findings<'_>,
) -> Option<ControlFile> {
    let parts = place.name.split_once('/').filter(|(_, name)| !name.contains('/'));
    let Some((level, name)) =
        parts.filter(|(level, name)| read::is_name(level, 128) && read::is_name(name, 128))
    else {
        findings.error(0, "a control policy lies at LEVEL/NAME.json, both of them names");
        return None;
    };
    let inline = read::document(source, node, kind, name, findings)?;
    Some(ControlFile {
        file: source.file.to_owned(),
        account: place.account.clone(),
        level: level.to_owned(),
        document: inline.document,
        policy: inline.policy,
    })
}

/// `team/alice` is the name `alice` under the path `/team/`.
fn path_and_name(rest: &str, longest: usize, findings: &mut Findings<'_>) -> (String, String) {
    let (folders, name) = rest.rsplit_once('/').map_or(("", rest), |(folders, name)| (folders, name));
    if !read::is_name(name, longest) {
        findings.error(0, format!("{name:?} {}, at most {longest}", read::BAD_NAME));
    }
    for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
        if !read::is_name(folder, 128) {
            findings.error(0, format!("the folder {folder:?} {}", read::BAD_NAME));
        }
    }
    let path = if folders.is_empty() { "/".to_owned() } else { format!("/{folders}/") };
    (path, name.to_owned())
}
