//! One user for each host of a fleet, with a key of its own and the rights of a host agent.
//!
//! A host that is cut off loses its user, and with it everything that was made with its key.

use crate::credentials::AccessKey;
use crate::error::IdentityError;
use crate::first_start::{HOST_AGENT, seal_key};
use crate::identity::Identity;
use crate::store::principals::NewUser;
use crate::store::{self, Owner};
use crate::unique_id;

/// Where the users of hosts live.
const PATH: &str = "/berth/instances/";

impl Identity {
    /// Makes the principal of a host: user `/berth/instances/NAME`, with an access key and `BerthHostAgent`.
    ///
    /// # Errors
    /// `Invalid` for a name that is no user name, `AlreadyExists`, the database's.
    pub async fn create_instance_principal(&self, instance: &str) -> Result<AccessKey, IdentityError> {
        let well_formed = (1..=64).contains(&instance.len())
            && instance.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte));
        if !well_formed {
            return Err(IdentityError::Invalid(format!("'{instance}' is no name for a host's user")));
        }
        let key = new_key();
        let user = NewUser {
            uid: unique_id::user(),
            name: instance.to_owned(),
            path: PATH.to_owned(),
            boundary: None,
            tags: Vec::new(),
            owner: Owner::Berth,
            foreign: None,
        };
        let row = seal_key(&self.inner().sealer, &key, &user.uid, Owner::Berth);
        let now_ms = self.now_ms();
        self.inner()
            .database
            .write(move |tx| {
                if store::principals::find_user(tx, &user.name)?.is_some() {
                    return Err(IdentityError::AlreadyExists(format!("the user {}", user.name)));
                }
                store::principals::insert_user(tx, &user, now_ms)?;
                store::policies::attach(tx, &user.uid, HOST_AGENT, Owner::Berth)?;
                store::keys::insert(tx, &row, now_ms)?;
                store::bump(tx)?;
                Ok(())
            })
            .await?;
        self.refresh().await?;
        Ok(key)
    }

    /// Gives a host another key; the one it had works nowhere within a second, and here at once.
    ///
    /// # Errors
    /// `NotFound` when the host has no principal any more; the database's.
    pub async fn renew_instance_key(&self, instance: &str) -> Result<AccessKey, IdentityError> {
        let key = new_key();
        let name = instance.to_owned();
        let not_found = || IdentityError::NotFound(format!("the user {instance} of a host"));
        let uid = {
            let directory = self.inner().directory.load();
            directory.user_by_name(instance).map(|user| user.uid.to_string()).ok_or_else(not_found)?
        };
        let row = seal_key(&self.inner().sealer, &key, &uid, Owner::Berth);
        let now_ms = self.now_ms();
        let renewed = self
            .inner()
            .database
            .write(move |tx| {
                let found = store::principals::find_user(tx, &name)?;
                if found.is_none_or(|found| found.uid != uid || found.owner != Owner::Berth.as_str()) {
                    return Ok::<_, IdentityError>(false);
                }
                store::keys::delete_of_user(tx, &uid)?;
                store::keys::insert(tx, &row, now_ms)?;
                store::bump(tx)?;
                Ok(true)
            })
            .await?;
        self.refresh().await?;
        if renewed { Ok(key) } else { Err(not_found()) }
    }

    /// Removes the principal of a host; its key works nowhere within a second, and here at once. A host
    /// that has none is no error.
    ///
    /// # Errors
    /// `Invalid` when the name belongs to a user that is no host's; the database's.
    pub async fn delete_instance_principal(&self, instance: &str) -> Result<(), IdentityError> {
        let name = instance.to_owned();
        self.inner()
            .database
            .write(move |tx| {
                let Some(user) = store::principals::find_user(tx, &name)? else { return Ok(()) };
                if user.owner != Owner::Berth.as_str() {
                    return Err(IdentityError::Invalid(format!("the user {name} belongs to no host")));
                }
                store::principals::delete_user(tx, &user.uid)?;
                store::bump(tx)?;
                Ok(())
            })
            .await?;
        self.refresh().await
    }
}

fn new_key() -> AccessKey {
    AccessKey { access_key_id: unique_id::access_key_id(), secret_access_key: unique_id::secret_access_key() }
}
