//! Where an upstream is, and which other places it may send this registry to.
//!
//! What an upstream names (redirects, the realm of its tokens) is checked like what a user names: by HTTPS and at a
//! public address only. A host that the operator lists may lie anywhere, but only a listed upstream leads to it.

use registry_runtime::tls::is_public;
use thiserror::Error;
use url::{Host, Url};

/// Names under which an upstream is known, and the host that serves it.
const ALIASES: [(&str, &str); 2] =
    [("docker.io", "registry-1.docker.io"), ("index.docker.io", "registry-1.docker.io")];

/// Hosts that give out tokens for another one. Everywhere else credentials go to the upstream's own address alone.
const REALMS: [(&str, &str); 2] =
    [("registry-1.docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

/// What stands in the list before a host that speaks plain HTTP.
const PLAIN: &str = "http://";

/// An upstream's own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    base: Url,
    listed: bool,
}

/// Why an upstream is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum PlaceError {
    #[error("must be HOST[:PORT], optionally with https:// before it")]
    Form,
    #[error(
        "must be reached by https, unless the configuration lists the host in pull_through_private_hosts"
    )]
    Plain,
    #[error("is not a public address, and the configuration does not list it in pull_through_private_hosts")]
    Private,
}

impl Place {
    pub(crate) fn parse(text: &str, private_hosts: &[String]) -> Result<Self, PlaceError> {
        let with = |scheme: &str| Url::parse(&format!("{scheme}://{text}")).map_err(|_| PlaceError::Form);
        let mut base = match text.contains("://") {
            true => Url::parse(text).map_err(|_| PlaceError::Form)?,
            false if is_listed_as(PLAIN, &with("http")?, private_hosts) => with("http")?,
            false => with("https")?,
        };
        let bare = base.username().is_empty()
            && base.password().is_none()
            && base.path() == "/"
            && base.query().is_none()
            && base.fragment().is_none();
        if !bare || !matches!(base.scheme(), "http" | "https") {
            return Err(PlaceError::Form);
        }
        let host = base.host_str().ok_or(PlaceError::Form)?;
        if let Some((_, real)) = ALIASES.iter().find(|(alias, _)| *alias == host) {
            base.set_host(Some(real)).map_err(|_| PlaceError::Form)?;
        }
        let listed = is_listed(&base, private_hosts);
        if !listed && base.scheme() != "https" {
            return Err(PlaceError::Plain);
        }
        if !listed && !may_be_public(&base) {
            return Err(PlaceError::Private);
        }
        Ok(Self { base, listed })
    }

    /// A URL of this upstream.
    pub(super) fn url(&self, path: &str) -> Result<Url, PlaceError> {
        self.base.join(path).map_err(|_| PlaceError::Form)
    }

    /// Whether the upstream may send this registry there.
    pub(super) fn may_lead_to(&self, url: &Url, private_hosts: &[String]) -> bool {
        let bare = url.username().is_empty() && url.password().is_none();
        let listed = is_listed(url, private_hosts);
        let reachable = if listed { self.listed } else { url.scheme() == "https" && may_be_public(url) };
        bare && reachable && matches!(url.scheme(), "http" | "https")
    }

    /// Whether what proves this registry to the upstream itself may be sent there.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Whether the upstream's credentials may be sent to a realm of tokens.
    pub(super) fn may_know_credentials(&self, realm: &Url) -> bool {
        let (own, host) = (self.base.host_str(), realm.host_str());
        let known = REALMS.iter().any(|(of, at)| own == Some(of) && host == Some(at));
        self.is_own(realm) || (known && realm.scheme() == "https")
    }
}

/// Whether the operator lists the host of a URL, with its port or without.
pub(super) fn is_listed(url: &Url, private_hosts: &[String]) -> bool {
    is_listed_as("", url, private_hosts) || is_listed_as(PLAIN, url, private_hosts)
}

/// The same, with these letters before it in the list.
fn is_listed_as(scheme: &str, url: &Url, private_hosts: &[String]) -> bool {
    let Some(host) = url.host_str() else { return false };
    let port = url.port_or_known_default().unwrap_or_default();
    private_hosts.iter().filter_map(|listed| listed.strip_prefix(scheme)).any(|listed| {
        let rest = listed.strip_prefix(host);
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':') == Some(&port.to_string()))
    })
}

/// False for addresses that are not public; what a name resolves to is checked when it is connected to.
fn may_be_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_public(address.into()),
        Some(Host::Ipv6(address)) => is_public(address.into()),
        Some(Host::Domain(name)) => name != "localhost" && !name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::{Place, PlaceError};

    fn listed() -> Vec<String> {
        ["127.0.0.1:5001", "registry.internal", "[::1]:5001", "http://127.0.0.1:5003"]
            .map(str::to_owned)
            .to_vec()
    }

    fn place(text: &str) -> Result<Place, PlaceError> {
        Place::parse(text, &listed())
    }

    #[test]
    fn an_upstream_is_a_public_host_by_https_or_one_that_is_listed() {
        for (text, authority) in [
            ("registry-1.docker.io", "registry-1.docker.io"),
            ("docker.io", "registry-1.docker.io"),
            ("https://quay.io", "quay.io"),
            ("ghcr.io:443", "ghcr.io"),
            ("8.8.8.8", "8.8.8.8"),
            ("http://127.0.0.1:5001", "127.0.0.1:5001"),
            ("http://[::1]:5001", "[::1]:5001"),
            ("http://registry.internal:8080", "registry.internal:8080"),
        ] {
            assert_eq!(
                place(text).map(|place| place.base.authority().to_owned()),
                Ok(authority.to_owned()),
                "{text}"
            );
        }
        for (text, error) in [
            ("", PlaceError::Form),
            ("ftp://quay.io", PlaceError::Form),
            ("quay.io/team", PlaceError::Form),
            ("https://user:secret@quay.io", PlaceError::Form),
            ("https://quay.io?x", PlaceError::Form),
            ("http://quay.io", PlaceError::Plain),
            ("http://127.0.0.1:5002", PlaceError::Plain),
            ("127.0.0.1:5002", PlaceError::Private),
            ("localhost:5001", PlaceError::Private),
            ("a.localhost", PlaceError::Private),
            ("169.254.169.254", PlaceError::Private),
            ("2130706433", PlaceError::Private),
            ("0x7f.1", PlaceError::Private),
            ("0177.0.0.1", PlaceError::Private),
            ("[::ffff:127.0.0.1]", PlaceError::Private),
            ("[fd00:ec2::254]", PlaceError::Private),
            ("registry.internal.example@127.0.0.1", PlaceError::Form),
        ] {
            assert_eq!(place(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_host_speaks_what_the_list_says() {
        let scheme = |text: &str| place(text).map(|place| place.base.scheme().to_owned());
        assert_eq!(scheme("127.0.0.1:5003").as_deref(), Ok("http"));
        assert_eq!(scheme("https://127.0.0.1:5003").as_deref(), Ok("https"));
        assert_eq!(scheme("127.0.0.1:5001").as_deref(), Ok("https"));
        assert_eq!(scheme("http://127.0.0.1:5001").as_deref(), Ok("http"));
    }

    #[test]
    fn a_public_upstream_leads_to_no_listed_host_and_its_credentials_stay_with_it() {
        let url = |text: &str| Url::parse(text).unwrap();
        let (hub, inside) = (place("docker.io").unwrap(), place("http://127.0.0.1:5001").unwrap());
        for (to, from_hub, from_inside) in [
            ("https://production.cloudflare.docker.com/x", true, true),
            ("http://production.cloudflare.docker.com/x", false, false),
            ("https://169.254.169.254/latest", false, false),
            ("http://127.0.0.1:5001/x", false, true),
            ("https://registry.internal/x", false, true),
            ("https://user@cdn.example/x", false, false),
            ("file:///etc/passwd", false, false),
        ] {
            let leads = |place: &Place| place.may_lead_to(&url(to), &listed());
            assert_eq!((leads(&hub), leads(&inside)), (from_hub, from_inside), "{to}");
        }
        for (realm, hub_knows, inside_knows) in [
            ("https://auth.docker.io/token", true, false),
            ("http://auth.docker.io/token", false, false),
            ("https://registry-1.docker.io/token", true, false),
            ("https://evil.example/token", false, false),
            ("https://auth.docker.io.evil.example/token", false, false),
            ("http://127.0.0.1:5001/token", false, true),
            ("http://127.0.0.1:5003/token", false, false),
        ] {
            let knows = |place: &Place| place.may_know_credentials(&url(realm));
            assert_eq!((knows(&hub), knows(&inside)), (hub_knows, inside_knows), "{realm}");
        }
        assert!(
            inside.is_own(&url("http://127.0.0.1:5001/v2/a"))
                && !inside.is_own(&url("http://127.0.0.1:5002/v2/a"))
        );
    }
}
