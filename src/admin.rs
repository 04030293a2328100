//! `berth admin`: what is done on the server's machine, with its keys, when nobody can sign in any more.

use anyhow::{Context, Result, bail};
use policies_identity::Identity;
use registry_core::remove_policy;
use registry_metadata::Metadata;
use registry_runtime::Clock;
use registry_types::RepositoryName;

use crate::arguments::ServeArguments;
use crate::config::Settings;
use crate::serve::{identity_config, open_keys};
use crate::storage::Storage;

/// Gives the administrator a new access key and writes DIR/credentials.
pub(crate) async fn reset(arguments: ServeArguments) -> Result<()> {
    let settings = Settings::load(&arguments)?;
    let storage = Storage::existing(&settings).await?;
    let (_, sealer) = open_keys(&settings, false)?;
    let database = storage.open().await?;
    let config = identity_config(&settings)?;
    let reset = Identity::reset_administrator(&database, &sealer, &config, Clock::system().now_ms()).await;
    database.close().await;
    let key = reset.context("the administrator has no new key")?;
    println!(
        "the administrator's new access key {} is in {}",
        key.access_key_id,
        settings.data.join("credentials").display()
    );
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct Unlock {
    /// The repository; without one, the policy of the whole registry
    repository: Option<RepositoryName>,
    #[command(flatten)]
    server: ServeArguments,
}

impl Unlock {
    pub(crate) async fn run(self) -> Result<()> {
        let settings = Settings::load(&self.server)?;
        let database = Storage::existing(&settings).await?.open().await?;
        let metadata = Metadata::open(database.clone()).await.context("cannot open the metadata")?;
        let removed = remove_policy(&metadata, self.repository.as_ref()).await;
        database.close().await;
        let place = self.repository.map_or("the registry".to_owned(), |name| name.to_string());
        match removed.with_context(|| format!("the policy of {place} is not removed"))? {
            Some(text) => println!("{text}"),
            None => bail!("{place} has no policy; the policies of users, groups, roles and files are others"),
        }
        eprintln!("the policy above is no longer that of {place}");
        Ok(())
    }
}
