//! Ending what was made with somebody's credentials: here at once, and on other servers within a second.

use registry_types::Arn;

use crate::error::IdentityError;
use crate::identity::Identity;
use crate::store;

impl Identity {
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
}
