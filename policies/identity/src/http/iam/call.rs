//! One request of IAM, with all that its work needs beside the transaction. Nothing here changes when the work runs
//! again.

use std::sync::Arc;

use registry_runtime::Sealer;
use registry_types::{AccountId, Arn};
use serde_json::Value;

use super::error::IamError;
use super::input::Input;
use crate::caller::{Caller, CallerKind};
use crate::credentials::AccessKey;
use crate::directory::Directory;
use crate::identity::Identity;
use crate::store::entities::{Entity, EntityKind};
use crate::store::{Owner, entities};
use crate::unique_id;

/// An operation that is being served.
pub(super) struct Call {
    pub(super) input: Input,
    pub(super) caller: Caller,
    pub(super) account: AccountId,
    pub(super) now_ms: i64,
    pub(super) sealer: Arc<Sealer>,
    /// What decides at this moment.
    pub(super) directory: Arc<Directory>,
    pub(super) identity: Identity,
    /// What a new thing is known by: the letters behind the prefix of its kind.
    letters: String,
    pub(super) fresh_key: AccessKey,
}

impl Call {
    pub(super) fn new(identity: &Identity, caller: &Caller, input: Value) -> Self {
        Self {
            input: Input(input),
            caller: caller.clone(),
            account: identity.account_id().clone(),
            now_ms: identity.now_ms(),
            sealer: Arc::clone(&identity.inner().sealer),
            directory: identity.inner().directory.load_full(),
            identity: identity.clone(),
            letters: unique_id::letters(),
            fresh_key: AccessKey {
                access_key_id: unique_id::access_key_id(),
                secret_access_key: unique_id::secret_access_key(),
            },
        }
    }

    /// A unique id that no other call has.
    pub(super) fn unique_id(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.letters)
    }

    /// `arn:aws:iam::ACCOUNT:KIND/PATH/NAME`; `path` begins and ends with a slash.
    pub(super) fn arn(&self, kind: &str, path: &str, name: &str) -> Arn {
        Arn::global("iam", &self.account, &format!("{kind}{path}{name}"))
    }

    /// The user that is named, or the one that asks.
    pub(super) fn user_name(&self) -> Result<&str, IamError> {
        if let Some(name) = self.input.optional_name("UserName", super::input::LONGEST_NAME)? {
            return Ok(name);
        }
        let is_ours = self.caller.kind() == CallerKind::User && *self.caller.account_id() == self.account;
        if is_ours {
            return Ok(self.caller.name());
        }
        Err(IamError::Validation("Must specify userName when calling with non-User credentials".to_owned()))
    }
}

/// Names of kinds, as they stand in ARNs and in members of requests.
pub(super) fn word(kind: EntityKind) -> &'static str {
    match kind {
        EntityKind::User => "user",
        EntityKind::Group => "group",
        EntityKind::Role => "role",
    }
}

/// The name of this kind that a request gives.
pub(super) fn name_of(call: &Call, kind: EntityKind) -> Result<&str, IamError> {
    use super::input::{LONGEST_LONG_NAME, LONGEST_NAME};
    match kind {
        EntityKind::User => call.input.name("UserName", LONGEST_NAME),
        EntityKind::Group => call.input.name("GroupName", LONGEST_LONG_NAME),
        EntityKind::Role => call.input.name("RoleName", LONGEST_NAME),
    }
}

/// The user, group or role of this name.
pub(super) fn find(tx: &registry_sql::Tx<'_>, kind: EntityKind, name: &str) -> Result<Entity, IamError> {
    let missing = || IamError::NoSuchEntity(format!("The {} with name {name} cannot be found.", word(kind)));
    entities::find(tx, kind, name)?.ok_or_else(missing)
}

/// The same, to be changed.
pub(super) fn find_own(tx: &registry_sql::Tx<'_>, kind: EntityKind, name: &str) -> Result<Entity, IamError> {
    let found = find(tx, kind, name)?;
    modifiable(found.owner, word(kind), &found.path, &found.name)?;
    Ok(found)
}

/// Refuses what is not the API's to change, and says where to change it.
pub(super) fn modifiable(owner: Owner, kind: &str, path: &str, name: &str) -> Result<(), IamError> {
    match owner {
        Owner::Api => Ok(()),
        Owner::Files => {
            let folder = match kind {
                "policy" => "policies".to_owned(),
                "OIDC provider" => {
                    return Err(IamError::Unmodifiable(format!(
                        "The {kind} {name} is read-only here, because a policy file in oidcProviders/ defines it. \
                         Change it there."
                    )));
                }
                _ => format!("{kind}s"),
            };
            Err(IamError::Unmodifiable(format!(
                "The {kind} {name} is read-only here, because the policy file {folder}{path}{name}.json defines it. \
                 Change it there."
            )))
        }
        Owner::Berth => Err(IamError::Unmodifiable(format!(
            "The {kind} {name} is read-only here, because Berth made it for a host. See berth instance --help."
        ))),
    }
}
