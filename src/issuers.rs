//! The way to the issuers of OIDC tokens.

use anyhow::{Context, Result};
use policies_identity::{Identity, Issuers};
use registry_runtime::tls::Certificate;

use crate::config::Config;

/// Without settings issuers are public ones, and are looked for only when a token names one.
pub(crate) fn reach(config: &Config, identity: &Identity) -> Result<()> {
    if config.oidc_ca_file.is_none() && config.oidc_private_hosts.is_empty() {
        return Ok(());
    }
    let authorities = match &config.oidc_ca_file {
        Some(file) => Certificate::all_from_file(file).context("oidc_ca_file cannot be used")?,
        None => Vec::new(),
    };
    let issuers = Issuers::new(authorities, config.oidc_private_hosts.clone());
    identity.reach_issuers(issuers.context("the issuers of OIDC tokens cannot be reached")?);
    Ok(())
}
