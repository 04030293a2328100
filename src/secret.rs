//! `berth secret`: secrets for policy files, on the server's machine, with its keys.

use std::io::{IsTerminal, Read, stdin};

use anyhow::{Context, Result, anyhow};
use clap::Subcommand;
use policies_identity::files::seal_secret;
use registry_runtime::SecretString;

use crate::arguments::ServeArguments;
use crate::config::Settings;
use crate::serve::open_keys;

/// Longer input is no secret.
const LARGEST: u64 = 4096;

/// Seal secrets for policy files
#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Seal the secret of an access key, for "sealedSecret" in a user's file
    ///
    /// Reads the secret, 32 to 128 printable characters, from the terminal or from standard input. Needs the key
    /// directory of the server; what is printed opens on servers with these keys alone.
    Seal(ServeArguments),
}

impl Secret {
    pub(crate) fn run(self) -> Result<()> {
        let Secret::Seal(arguments) = self;
        let settings = Settings::load(&arguments)?;
        let (_, sealer) = open_keys(&settings, false)?;
        let secret = read().context("the secret cannot be read")?;
        println!("{}", seal_secret(&sealer, &secret).map_err(|error| anyhow!(error))?);
        Ok(())
    }
}

fn read() -> Result<SecretString> {
    if stdin().is_terminal() {
        return Ok(rpassword::prompt_password("Secret of the access key: ")?.into());
    }
    let mut text = String::new();
    stdin().lock().take(LARGEST).read_to_string(&mut text)?;
    Ok(text.into())
}
