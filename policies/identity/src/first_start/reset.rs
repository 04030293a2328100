//! `berth admin reset`: a way back in for whoever has the machine and the key directory.
//!
//! The administrator is made anew, with a new key; what was made with the old one ends.

use std::sync::Arc;

use registry_runtime::Sealer;
use registry_sql::Database;

use super::{ADMINISTRATOR, ADMINISTRATOR_ACCESS, administrator, credentials_file, seal_key};
use crate::config::IdentityConfig;
use crate::credentials::AccessKey;
use crate::error::IdentityError;
use crate::identity::Identity;
use crate::store::{self, Owner};
use crate::unique_id;

impl Identity {
    /// Gives the administrator a new access key and its rights back, and writes the credentials file. A
    /// server that runs on this database notices within 250 ms.
    ///
    /// # Errors
    /// `NotFound` before the first start; the database's, and of the credentials file.
    pub async fn reset_administrator(
        database: &Database,
        sealer: &Arc<Sealer>,
        config: &IdentityConfig,
        now_ms: i64,
    ) -> Result<AccessKey, IdentityError> {
        database.migrate(store::NAMESPACE, store::MIGRATIONS).await?;
        let key = AccessKey {
            access_key_id: unique_id::access_key_id(),
            secret_access_key: unique_id::secret_access_key(),
        };
        let user = administrator();
        let row = seal_key(sealer, &key, &user.uid, Owner::Api);
        database
            .write(move |tx| {
                if store::account::get(tx)?.is_none() {
                    return Err(IdentityError::NotFound("the account".to_owned()));
                }
                if let Some(found) = store::principals::find_user(tx, ADMINISTRATOR)? {
                    store::principals::delete_user(tx, &found.uid)?;
                }
                store::principals::insert_user(tx, &user, now_ms)?;
                store::policies::attach(tx, &user.uid, ADMINISTRATOR_ACCESS, Owner::Api)?;
                store::keys::insert(tx, &row, now_ms)?;
                store::bump(tx)?;
                Ok(())
            })
            .await?;
        credentials_file::replace(config, &key)?;
        Ok(key)
    }
}
