//! Where a passphrase comes from: a file, or whoever sits at the terminal.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use registry_runtime::SecretString;

#[derive(Args, Debug)]
pub(crate) struct PassphraseArguments {
    /// File with the passphrase of the recovery key in its first line
    #[arg(long, env = "BERTH_PASSPHRASE_FILE", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArguments {
    pub(super) fn is_given(&self) -> bool {
        self.passphrase_file.is_some()
    }

    /// A passphrase to protect something with: asked for twice.
    pub(super) fn new_one(&self) -> Result<SecretString> {
        let first = self.ask()?;
        if !self.is_given() && prompt("The same again: ")? != first {
            bail!("the two passphrases differ");
        }
        Ok(first)
    }

    /// The passphrase that something was protected with.
    pub(super) fn ask(&self) -> Result<SecretString> {
        let passphrase = match &self.passphrase_file {
            None => prompt("Passphrase of the recovery key: ")?,
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text =
                    SecretString::new(text.with_context(|| format!("cannot read {}", path.display()))?);
                SecretString::from(text.expose().lines().next().unwrap_or_default())
            }
        };
        if passphrase.expose().is_empty() {
            bail!("the passphrase is empty");
        }
        Ok(passphrase)
    }
}

fn prompt(text: &str) -> Result<SecretString> {
    if !std::io::stdin().is_terminal() {
        bail!("a passphrase is needed and there is no terminal to ask for it: use --passphrase-file FILE");
    }
    Ok(SecretString::new(rpassword::prompt_password(text)?))
}
