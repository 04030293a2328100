//! `berth admin`: what is done on the server's machine, with its keys, when nobody can sign in any more.

use anyhow::{Context, Result, bail};
use policies_identity::Identity;
use registry_runtime::Clock;
use registry_sql::Database;

use crate::arguments::ServeArguments;
use crate::config::Settings;
use crate::serve::{identity_config, open_keys};

/// Gives the administrator a new access key and writes DIR/credentials.
pub(crate) async fn reset(arguments: ServeArguments) -> Result<()> {
    let settings = Settings::load(&arguments)?;
    let path = settings.data.join("berth.db");
    if !path.exists() {
        bail!("{} does not exist: `berth up` or `berth serve` make it at their first start", path.display());
    }
    let (_, sealer) = open_keys(&settings)?;
    let database =
        Database::open_sqlite(&path).await.with_context(|| format!("cannot open {}", path.display()))?;
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
