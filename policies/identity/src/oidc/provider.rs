//! An OIDC provider: an issuer, and the audiences that its tokens may be for.

use std::sync::Arc;

use http::Uri;
use thiserror::Error;

pub(crate) const MOST_CLIENT_IDS: usize = 100;
pub(crate) const MOST_THUMBPRINTS: usize = 5;
const LONGEST_URL: usize = 255;

/// As it decides at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Provider {
    pub(crate) uid: Arc<str>,
    pub(crate) generation: i64,
    /// `arn:aws:iam::ACCOUNT:oidc-provider/NAME`
    pub(crate) arn: Arc<str>,
    /// The issuer's URL without `https://`: what condition keys begin with.
    pub(crate) name: Arc<str>,
    pub(crate) client_ids: Vec<String>,
}

impl Provider {
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.name)
    }
}

/// What is wrong with a provider's description. The text is for its author.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ProviderError {
    #[error(
        "an issuer is a URL such as https://token.example.org/path, without query or fragment, of at most 255 characters"
    )]
    Url,
    #[error("a client id has 1 to 255 characters without white space")]
    ClientId,
    #[error("a thumbprint is 40 hexadecimal digits")]
    Thumbprint,
}

/// The name of the issuer at this URL: all behind `https://`, a slash at its end too.
pub(crate) fn issuer_name(url: &str) -> Result<&str, ProviderError> {
    let name = url.strip_prefix("https://").ok_or(ProviderError::Url)?;
    let well_formed = (1..=LONGEST_URL).contains(&url.len())
        && url.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && !b"*?#@\\\"<>".contains(&byte))
        && url.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    if well_formed { Ok(name) } else { Err(ProviderError::Url) }
}

pub(crate) fn check_client_id(text: &str) -> Result<(), ProviderError> {
    let good = (1..=255).contains(&text.len()) && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    if good { Ok(()) } else { Err(ProviderError::ClientId) }
}

pub(crate) fn check_thumbprint(text: &str) -> Result<(), ProviderError> {
    let good = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if good { Ok(()) } else { Err(ProviderError::Thumbprint) }
}
