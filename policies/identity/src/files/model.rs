//! A checked policy directory. Everything in it is sound, and every reference in it leads somewhere.

use std::path::PathBuf;
use std::sync::Arc;

use policies::Policy;
use registry_types::{AccountId, RepositoryName};

use super::finding::FileFinding;
use super::secrets::SealedSecret;
use crate::store::principals::name_key_in;

/// A set of policy files that passed the check.
#[derive(Debug)]
pub struct PolicyFiles {
    /// The account that the directory is written for.
    pub account: AccountId,
    pub users: Vec<UserFile>,
    pub groups: Vec<GroupFile>,
    pub roles: Vec<RoleFile>,
    pub policies: Vec<ManagedFile>,
    pub repositories: Vec<RepositoryFile>,
    /// Service control policies of this account and of others, by account and level.
    pub service_control: Vec<ControlFile>,
    /// Resource control policies of this account, by level.
    pub resource_control: Vec<ControlFile>,
    /// OIDC providers of this account.
    pub providers: Vec<ProviderFile>,
    /// What is questionable and nevertheless in use.
    pub warnings: Vec<FileFinding>,
    /// SHA-256 over names and contents of all files, in hex.
    pub content_sha256: String,
    /// The texts by name: a JSON object.
    pub(super) texts: String,
}

/// `users/PATH/NAME.json`
#[derive(Debug)]
pub struct UserFile {
    pub file: String,
    pub account: AccountId,
    pub name: String,
    /// `/`, or `/team/`: the folders between `users/` and the file.
    pub path: String,
    /// Names of groups of this set.
    pub groups: Vec<String>,
    /// ARNs of policies of this set, or shipped ones.
    pub attached: Vec<String>,
    pub inline: Vec<InlinePolicy>,
    /// ARN.
    pub boundary: Option<String>,
    pub tags: Vec<(String, String)>,
    pub access_keys: Vec<KeyFile>,
}

/// `groups/PATH/NAME.json`
#[derive(Debug)]
pub struct GroupFile {
    pub file: String,
    pub account: AccountId,
    pub name: String,
    pub path: String,
    pub attached: Vec<String>,
    pub inline: Vec<InlinePolicy>,
}

/// `roles/PATH/NAME.json`
#[derive(Debug)]
pub struct RoleFile {
    pub file: String,
    pub account: AccountId,
    pub name: String,
    pub path: String,
    pub description: String,
    pub trust_policy: InlinePolicy,
    pub max_session_s: i64,
    pub attached: Vec<String>,
    pub inline: Vec<InlinePolicy>,
    pub boundary: Option<String>,
    pub tags: Vec<(String, String)>,
}

/// `policies/PATH/NAME.json`
#[derive(Debug)]
pub struct ManagedFile {
    pub file: String,
    pub account: AccountId,
    pub name: String,
    pub path: String,
    pub arn: String,
    pub document: String,
    pub policy: Arc<Policy>,
}

/// `repositories/NAME.json`, where NAME may have folders: the policy of that repository.
#[derive(Debug)]
pub struct RepositoryFile {
    pub file: String,
    pub repository: RepositoryName,
    pub document: String,
    pub policy: Arc<Policy>,
}

/// `serviceControlPolicies/LEVEL/NAME.json` or `resourceControlPolicies/LEVEL/NAME.json`, of this account or below
/// `accounts/ACCOUNT/`. Levels are asked in the order of their names: the root of the organisation first.
#[derive(Debug)]
pub struct ControlFile {
    pub file: String,
    pub account: AccountId,
    pub level: String,
    pub document: String,
    pub policy: Arc<Policy>,
}

/// `oidcProviders/NAME.json`, under any name.
#[derive(Debug)]
pub struct ProviderFile {
    pub file: String,
    /// The issuer's URL without `https://`.
    pub name: String,
    /// Audiences that its tokens may be for.
    pub client_ids: Vec<String>,
    /// SHA-1 of certificates, in hex.
    pub thumbprints: Vec<String>,
    pub tags: Vec<(String, String)>,
}

/// A document inside another file. Lines of its statements count in that file.
#[derive(Debug)]
pub struct InlinePolicy {
    pub name: String,
    pub document: String,
    pub policy: Arc<Policy>,
}

/// Where the secret of an access key is.
#[derive(Debug, Clone)]
pub enum KeySecret {
    /// In a file outside the directory, read when the set is published.
    File(PathBuf),
    /// In the directory, sealed by the installation that it is for.
    Sealed(SealedSecret),
}

/// An access key.
#[derive(Debug)]
pub struct KeyFile {
    pub access_key_id: String,
    pub secret: KeySecret,
    pub active: bool,
    /// Where the directory names the secret: line and column.
    pub(super) place: (u32, u32),
}

/// Line and column of a byte offset, for findings made later.
pub(super) fn place(text: &str, at: usize) -> (u32, u32) {
    policies::json::position(text, at)
}

impl PolicyFiles {
    /// The files as they were read, by name.
    pub fn texts(&self) -> std::collections::BTreeMap<String, String> {
        serde_json::from_str(&self.texts).expect("texts are strings under strings")
    }

    /// A name as the tables know it: folded, and under its account if that is another one.
    pub(super) fn key(&self, account: &AccountId, name: &str) -> String {
        name_key_in(self.foreign(account), name)
    }

    /// The account, if it is another one than that of the directory.
    pub(super) fn foreign<'a>(&self, account: &'a AccountId) -> Option<&'a AccountId> {
        Some(account).filter(|account| **account != self.account)
    }
}
