//! Publication: a checked set goes to the database as one generation, in one transaction.
//!
//! All servers load it from there, and it stays there when the directory breaks or goes away. Secrets are
//! read at this moment and sealed before they are stored.

use std::sync::Arc;

use thiserror::Error;

use super::finding::FileFinding;
use super::model::PolicyFiles;
use super::plan::{Means, plan};
use super::scan::{MARKER, Texts};
use super::secrets;
use crate::error::IdentityError;
use crate::identity::Identity;
use crate::store;
use crate::store::files::NewGeneration;

/// The set that is in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    pub number: i64,
    /// False: the tables said the same already, and nothing was written.
    pub changed: bool,
}

#[derive(Debug, Error)]
pub enum PublishError {
    /// The set does not fit what is there, or a secret cannot be read. The generation before stays.
    #[error("the policy files cannot be published: {}", first(.0))]
    Findings(Vec<FileFinding>),
    #[error("the policy files were not published")]
    Identity(#[from] IdentityError),
    #[error("the policy files were not published: others kept changing principals at the same time")]
    Busy,
}

fn first(findings: &[FileFinding]) -> String {
    let others = findings.len().saturating_sub(1);
    let first = findings.first().map(ToString::to_string).unwrap_or_default();
    if others == 0 { first } else { format!("{first} (and {others} more)") }
}

/// How often a plan is made anew because somebody changed the tables meanwhile.
const ATTEMPTS: usize = 8;

impl Identity {
    /// Makes the tables say what the files say. `published_by` is kept with the generation: the ARN of a
    /// caller, or the directory that is watched. Acts here when it returns, on other servers within a second.
    ///
    /// # Errors
    /// Findings about the files, none of them published then; or the database's.
    pub async fn publish(
        &self,
        files: Arc<PolicyFiles>,
        published_by: &str,
    ) -> Result<Generation, PublishError> {
        if files.account != *self.account_id() {
            let message =
                format!("written for the account {}; this Berth is {}", files.account, self.account_id());
            return Err(PublishError::Findings(vec![FileFinding::whole(MARKER, message)]));
        }
        let (read, sealer) = (Arc::clone(&files), Arc::clone(&self.inner().sealer));
        let secrets = tokio::task::spawn_blocking(move || secrets::read(&read, &sealer)).await;
        let secrets = secrets.map_err(|_| PublishError::Busy)?.map_err(PublishError::Findings)?;
        for _ in 0..ATTEMPTS {
            let stored =
                self.inner().database.read(|tx| store::files::load(tx)).await.map_err(IdentityError::from)?;
            let means = Means {
                account: self.account_id(),
                region: self.region(),
                sealer: &self.inner().sealer,
                secrets: &secrets,
            };
            let changes = plan(&files, &stored, &means).map_err(PublishError::Findings)?;
            let (number, content) = stored.newest.clone().unwrap_or((0, String::new()));
            if changes.is_empty() && content == files.content_sha256 {
                return Ok(Generation { number, changed: false });
            }
            let generation = NewGeneration {
                number: number + 1,
                published_by: published_by.to_owned(),
                content_sha256: files.content_sha256.clone(),
                texts: files.texts.clone(),
            };
            let (read_at, now_ms, number) = (stored.security_generation, self.now_ms(), generation.number);
            let written = self
                .inner()
                .database
                .write(move |tx| store::files::publish(tx, read_at, &changes, &generation, now_ms))
                .await;
            if written.map_err(IdentityError::from)? {
                self.refresh().await?;
                return Ok(Generation { number, changed: true });
            }
        }
        Err(PublishError::Busy)
    }

    /// The generation in effect, if a set with this hash is the last that this publisher published, and
    /// another one has published since.
    pub(super) async fn superseded(
        &self,
        content_sha256: &str,
        published_by: &str,
    ) -> Result<Option<Generation>, IdentityError> {
        let by = published_by.to_owned();
        let newest = self.inner().database.read(move |tx| store::files::newest(tx, &by)).await?;
        let newest = newest.filter(|newest| {
            newest.of_publisher.1 == content_sha256 && newest.of_publisher.0 != newest.of_all.0
        });
        Ok(newest.map(|newest| Generation { number: newest.of_all.0, changed: false }))
    }

    /// The newest published set as it was written, by name; None before the first.
    pub(crate) async fn published_texts(&self) -> Result<Option<Texts>, IdentityError> {
        let bytes = self.inner().database.read(|tx| store::files::newest_texts(tx)).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}

#[cfg(test)]
mod tests;
