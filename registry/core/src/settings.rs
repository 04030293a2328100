//! Settings of the registry as a whole: its policy, and whether blobs are mounted.

use std::sync::Arc;

use registry_metadata::{Metadata, Tx, repositories, settings};
use registry_types::RepositoryName;

use crate::error::CoreError;
use crate::registry::Registry;

const POLICY: &str = "policy";
const BLOB_MOUNTING: &str = "blob_mounting";
const DISABLED: &str = "disabled";

/// The text of the registry policy; `version` rises with every change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryPolicy {
    pub text: Arc<str>,
    pub version: i64,
}

/// Removes the policy of a repository, or that of the registry, whoever it refuses. Gives its text; `None` where there
/// was none.
///
/// # Errors
/// `RepositoryNotFound`.
pub async fn remove_policy(
    metadata: &Metadata,
    repository: Option<&RepositoryName>,
) -> Result<Option<Arc<str>>, CoreError> {
    let repository = repository.cloned();
    metadata
        .write(move |tx| {
            let Some(name) = &repository else {
                let before = settings::get(tx, POLICY)?;
                settings::delete(tx, POLICY)?;
                return Ok(before.map(|(text, _)| text));
            };
            let repository = repositories::by_name(tx, name)?.ok_or(CoreError::RepositoryNotFound)?;
            if repository.policy.is_some() {
                repositories::set_policy(tx, &repository.uid, None)?;
            }
            Ok(repository.policy.map(|policy| policy.text))
        })
        .await
}

impl Registry {
    /// The registry policy, if one is set.
    pub async fn registry_policy(&self) -> Result<Option<RegistryPolicy>, CoreError> {
        let read = self.inner.metadata.point(|tx| Ok::<_, CoreError>(settings::get(tx, POLICY)?));
        Ok(read.await?.map(|(text, version)| RegistryPolicy { text, version }))
    }

    /// Sets the registry policy, or removes it. The text was checked by the caller. Gives the policy as it was.
    pub async fn set_registry_policy(
        &self,
        text: Option<String>,
    ) -> Result<Option<RegistryPolicy>, CoreError> {
        let now_ms = self.now_ms();
        self.inner
            .metadata
            .write(move |tx| {
                let before = settings::get(tx, POLICY)?;
                match &text {
                    Some(text) => settings::put(tx, POLICY, text, now_ms)?,
                    None => drop(settings::delete(tx, POLICY)?),
                }
                Ok(before.map(|(text, version)| RegistryPolicy { text, version }))
            })
            .await
    }

    /// Whether a blob of one repository may be mounted into another.
    pub async fn blob_mounting(&self) -> Result<bool, CoreError> {
        self.inner.metadata.point(|tx| mounting(tx)).await
    }

    pub async fn set_blob_mounting(&self, enabled: bool) -> Result<(), CoreError> {
        let now_ms = self.now_ms();
        self.inner
            .metadata
            .write(move |tx| {
                if enabled {
                    settings::delete(tx, BLOB_MOUNTING)?;
                } else {
                    settings::put(tx, BLOB_MOUNTING, DISABLED, now_ms)?;
                }
                Ok(())
            })
            .await
    }
}

pub(crate) fn mounting(tx: &Tx<'_>) -> Result<bool, CoreError> {
    Ok(settings::get(tx, BLOB_MOUNTING)?.is_none())
}
