//! Changes to access keys and principals. Each acts here at once, and on other servers within a second.

use registry_types::Arn;

use crate::credentials::AccessKey;
use crate::error::IdentityError;
use crate::first_start::seal_key;
use crate::identity::Identity;
use crate::store::{self, Owner};
use crate::unique_id;

impl Identity {
    /// Makes another access key for a user.
    ///
    /// # Errors
    /// `NotFound` when there is no such user; the database's.
    pub async fn create_access_key(&self, user: &str) -> Result<AccessKey, IdentityError> {
        let key = AccessKey {
            access_key_id: unique_id::access_key_id(),
            secret_access_key: unique_id::secret_access_key(),
        };
        let not_found = || IdentityError::NotFound(format!("the user {user}"));
        let uid = {
            let directory = self.inner().directory.load();
            directory.user_by_name(user).map(|user| user.uid.to_string()).ok_or_else(not_found)?
        };
        let row = seal_key(&self.inner().sealer, &key, &uid, Owner::Api);
        let (name, now_ms) = (user.to_owned(), self.now_ms());
        let inserted = self
            .inner()
            .database
            .write(move |tx| {
                // The secret is sealed for this very user: not for one that took its name meanwhile.
                if store::principals::find_user(tx, &name)?.is_none_or(|found| found.uid != uid) {
                    return Ok::<_, IdentityError>(false);
                }
                store::keys::insert(tx, &row, now_ms)?;
                store::bump(tx)?;
                Ok(true)
            })
            .await?;
        if !inserted {
            return Err(not_found());
        }
        self.refresh().await?;
        Ok(key)
    }

    /// Enables or disables an access key. What was made with it before stays dead when it is enabled again.
    ///
    /// # Errors
    /// `NotFound` when there is no such key; the database's.
    pub async fn set_access_key_active(
        &self,
        access_key_id: &str,
        active: bool,
    ) -> Result<(), IdentityError> {
        let id = access_key_id.to_owned();
        self.change(move |tx| store::keys::set_active(tx, &id, active), access_key_id).await
    }

    /// Deletes an access key.
    ///
    /// # Errors
    /// `NotFound` when there is no such key; the database's.
    pub async fn delete_access_key(&self, access_key_id: &str) -> Result<(), IdentityError> {
        let id = access_key_id.to_owned();
        self.change(move |tx| store::keys::delete(tx, &id), access_key_id).await
    }

    /// Ends every session and token that was made with the credentials of a user or role; its long-lived
    /// access keys stay. What a role's own policies allow is not touched.
    ///
    /// # Errors
    /// `NotFound` when there is no such user or role; the database's.
    pub async fn end_sessions(&self, principal: &Arn) -> Result<(), IdentityError> {
        let uid = {
            let directory = self.inner().directory.load();
            let name = principal.resource().rsplit('/').next().unwrap_or_default();
            let user = directory.user_by_name(name).filter(|user| &*user.arn == principal.as_str());
            let found = user.or_else(|| directory.role_by_arn(principal.as_str()));
            found.map(|found| found.uid.to_string())
        };
        let Some(uid) = uid else { return Err(IdentityError::NotFound(principal.to_string())) };
        self.inner()
            .database
            .write(move |tx| {
                store::principals::raise_generation(tx, &uid)?;
                store::bump(tx)
            })
            .await?;
        self.refresh().await
    }

    async fn change(
        &self,
        mut change: impl FnMut(&registry_sql::Tx<'_>) -> Result<bool, registry_sql::Error> + Send + 'static,
        what: &str,
    ) -> Result<(), IdentityError> {
        let changed = self
            .inner()
            .database
            .write(move |tx| {
                let changed = change(tx)?;
                if changed {
                    store::bump(tx)?;
                }
                Ok::<_, IdentityError>(changed)
            })
            .await?;
        self.refresh().await?;
        if changed { Ok(()) } else { Err(IdentityError::NotFound(format!("the access key {what}"))) }
    }
}
