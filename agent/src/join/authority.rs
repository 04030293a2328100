//! Which CA a host trusts from the moment it joins: the one that its token names by its hash.

use std::net::IpAddr;
use std::path::Path;

use registry_runtime::tls::{Certificate, Fingerprint, TlsError, fetch_ca};
use url::{Host, Url};

use crate::error::AgentError;

/// The CA that counts for the server at `server_url`; `None` when public certificates do, or nothing is encrypted
/// because nothing leaves this machine.
///
/// # Errors
/// `Exposed` for a URL that would carry secrets in clear, `Authority` for a server that is not the token's.
pub(super) async fn authority(
    server_url: &str,
    token: &str,
    ca_file: Option<&Path>,
) -> Result<Option<Certificate>, AgentError> {
    let url = Url::parse(server_url).map_err(|_| AgentError::ServerUrl(server_url.to_owned()))?;
    match url.scheme() {
        "https" => {}
        "http" if is_this_machine(&url) => return Ok(None),
        "http" => return Err(AgentError::Exposed(server_url.to_owned())),
        _ => return Err(AgentError::ServerUrl(server_url.to_owned())),
    }
    if let Some(file) = ca_file {
        return Ok(Certificate::all_from_file(file)?.into_iter().next());
    }
    let Some(expected) = named_in(token)? else { return Ok(None) };
    let found = fetch_ca(server_url).await.map_err(|error| match error {
        TlsError::Fetched(why) => AgentError::Authority(why),
        other => other.into(),
    })?;
    if found.fingerprint() != expected {
        return Err(AgentError::Authority(format!(
            "the CA of {server_url} has the fingerprint {}, and the token is for a server whose CA has {expected}: \
             the token was not sent; ask for a new one if the server has made a new CA",
            found.fingerprint()
        )));
    }
    Ok(Some(found))
}

/// The hash at the end of a token: `berth-join-SECRET.HASH`.
fn named_in(token: &str) -> Result<Option<Fingerprint>, AgentError> {
    let Some((_, hash)) = token.split_once('.') else { return Ok(None) };
    let damaged = |_| AgentError::Refused("the join token is damaged: copy the whole line".to_owned());
    hash.parse().map(Some).map_err(damaged)
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(four)) => four.is_loopback(),
        Some(Host::Ipv6(six)) => IpAddr::V6(six).to_canonical().is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_goes_nowhere_in_clear_but_to_this_machine() {
        let hash = "0".repeat(64);
        let token = format!("berth-join-x.{hash}");
        for url in ["http://127.0.0.1:5000", "http://localhost:5000", "http://[::1]:5000"] {
            assert_eq!(authority(url, &token, None).await.unwrap(), None, "{url}");
        }
        for url in ["http://192.0.2.1:5000", "http://registry.example", "http://localhost.example"] {
            let refused = authority(url, &token, None).await;
            assert!(matches!(refused, Err(AgentError::Exposed(_))), "{url}: {refused:?}");
        }
        for url in ["", "registry.example", "ftp://registry.example"] {
            let refused = authority(url, &token, None).await;
            assert!(matches!(refused, Err(AgentError::ServerUrl(_))), "{url}: {refused:?}");
        }
        // Without a hash the server's certificate is a public one.
        assert_eq!(authority("https://registry.example", "berth-join-x", None).await.unwrap(), None);
        let cut = authority("https://registry.example", "berth-join-x.00", None).await;
        assert!(matches!(cut, Err(AgentError::Refused(_))), "{cut:?}");
    }
}
