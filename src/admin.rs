//! `berth admin`: what is done on the server's machine, with its keys, when nobody can sign in any more.

use anyhow::{Context, Result};
use policies_identity::Identity;
use registry_runtime::Clock;

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
