//! The check of a whole directory: every error, each with file, line and column.

use std::path::Path;
use std::sync::Arc;

use policies::json::{self, Node};
use policies::{Findings, Policy, PolicyKind};
use registry_types::{AccountId, RepositoryName};
use sha2::{Digest, Sha256};

use super::fields::Fields;
use super::finding::{FileFinding, about};
use super::model::{ManagedFile, PolicyFiles, RepositoryFile};
use super::read::{self, RawRole, RawUser, Rights, Source};
use super::resolve::{self, Resolver};
use super::scan::{self, MARKER, Texts};

/// The only format there is.
const FORMAT: i64 = 1;

/// What was read of one principal, before its references are looked at.
pub(super) struct Raw<'t, T> {
    pub(super) source: Source<'t>,
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
    for (file, text) in texts.iter().filter(|(file, _)| *file != MARKER) {
        checker.file(file, text, account.as_ref());
    }
    let Checker { mut findings, set, .. } = checker;
    // References mean little while the account is unknown or names stand twice.
    let resolved = account.map(|account| {
        let resolver = Resolver::new(&account, &set, &mut findings);
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

    fn file(&mut self, file: &'t str, text: &'t str, account: Option<&AccountId>) {
        let (kind, rest) = file.split_once('/').unwrap_or(("", file));
        let rest = rest.strip_suffix(".json").unwrap_or(rest);
        let mut findings = Findings::new(text);
        let longest = match kind {
            "users" | "roles" => 64,
            "groups" | "policies" => 128,
            "repositories" => usize::MAX,
            _ => {
                let message =
                    "belongs to no folder that Berth knows: users, groups, roles, policies, repositories";
                self.findings.push(FileFinding::whole(file, message));
                return;
            }
        };
        let source = Source { file, text };
        if let Some(node) = json::read(text, &mut findings) {
            if kind == "repositories" {
                self.repository(&source, rest, &node, &mut findings);
            } else {
                let (path, name) = path_and_name(rest, longest, &mut findings);
                self.principal_or_policy(kind, source, (path, name), &node, account, &mut findings);
            }
        }
        self.findings.extend(about(file, findings.into_sorted()));
    }

    fn principal_or_policy(
        &mut self,
        kind: &str,
        source: Source<'t>,
        (path, name): (String, String),
        node: &Node,
        account: Option<&AccountId>,
        findings: &mut Findings<'_>,
    ) {
        match kind {
            "users" => {
                if let Some(content) = read::user(&source, self.root, node, findings) {
                    self.set.users.push(Raw { source, name, path, content });
                }
            }
            "groups" => {
                if let Some(content) = read::group(&source, node, findings) {
                    self.set.groups.push(Raw { source, name, path, content });
                }
            }
            "roles" => {
                if let Some(content) = read::role(&source, node, findings) {
                    self.set.roles.push(Raw { source, name, path, content });
                }
            }
            _ => {
                // A managed policy may serve as a boundary too: the smaller quota of the two holds.
                let limit = PolicyKind::Boundary.size_limit();
                let Some(inline) = read::document(&source, node, PolicyKind::Identity, &name, findings)
                else {
                    return;
                };
                let size = inline.policy.size();
                if size > limit {
                    let message = format!(
                        "a policy has at most {limit} characters without white space; this one has {size}"
                    );
                    findings.error(node.start, message);
                }
                let arn = account.map(|account| format!("arn:aws:iam::{account}:policy{path}{name}"));
                self.set.policies.push(ManagedFile {
                    file: source.file.to_owned(),
                    name,
                    path,
                    arn: arn.unwrap_or_default(),
                    document: inline.document,
                    policy: inline.policy,
                });
            }
        }
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
