//! Which image names are Berth's own.
//!
//! A name is Berth's own when its host is the advertised one, a loopback name with a port of the server's, one of
//! `registry_names`, or ECR's host of this account in any region. Nobody else is ever asked for such an image.

use registry_types::{AccountId, Reference, RepositoryName};

/// The hosts that stand for this registry.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    hosts: Vec<String>,
    ports: Vec<u16>,
    account_id: AccountId,
}

/// An image name taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnImage {
    pub(crate) repository: RepositoryName,
    pub(crate) reference: Reference,
}

/// A name whose host is Berth's, with a path that names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} names no image of this registry: write HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST")]
pub(crate) struct InvalidName(String);

impl Names {
    pub(crate) fn new(
        advertise: Option<&str>,
        registry_names: &[String],
        ports: Vec<u16>,
        account_id: AccountId,
    ) -> Self {
        let hosts = advertise.into_iter().map(str::to_owned).chain(registry_names.iter().cloned()).collect();
        Self { hosts, ports, account_id }
    }

    /// The repository and reference of an image name; `None` when its host is not Berth's.
    pub(crate) fn parse(&self, image: &str) -> Result<Option<OwnImage>, InvalidName> {
        let Some((host, path)) = image.split_once('/') else { return Ok(None) };
        if !self.is_own(host) {
            return Ok(None);
        }
        let invalid = || InvalidName(image.to_owned());
        let (name, reference) = match path.split_once('@') {
            // A name with tag and digest means the digest, as docker reads it.
            Some((name, digest)) => (name.split_once(':').map_or(name, |(name, _)| name), digest),
            None => path.rsplit_once(':').unwrap_or((path, "latest")),
        };
        let repository = name.parse().map_err(|_| invalid())?;
        let reference = reference.parse().map_err(|_| invalid())?;
        Ok(Some(OwnImage { repository, reference }))
    }

    fn is_own(&self, host: &str) -> bool {
        let loopback = || {
            let (name, port) = host.rsplit_once(':')?;
            let port: u16 = port.parse().ok()?;
            let name = name.trim_start_matches('[').trim_end_matches(']');
            let is_loopback =
                name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
            Some(is_loopback && self.ports.contains(&port))
        };
        let ecr = || {
            let rest = host.strip_prefix(self.account_id.as_str())?.strip_prefix(".dkr.ecr.")?;
            let region = rest.strip_suffix(".amazonaws.com")?;
            Some(!region.is_empty() && !region.contains('.'))
        };
        self.hosts.iter().any(|own| own == host) || loopback() == Some(true) || ecr() == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    fn names() -> Names {
        Names::new(
            Some("registry.example:443"),
            &["images.internal".to_owned()],
            vec![5000, 443],
            "000000000000".parse().unwrap(),
        )
    }

    #[test]
    fn own_hosts_are_recognised() {
        for (image, repository, reference) in [
            ("127.0.0.1:5000/app:1", "app", "1"),
            ("localhost:5000/team/app", "team/app", "latest"),
            ("127.0.0.1:443/app:1", "app", "1"),
            ("[::1]:5000/app:1", "app", "1"),
            ("registry.example:443/app:v2", "app", "v2"),
            ("images.internal/app:v2", "app", "v2"),
            ("000000000000.dkr.ecr.eu-west-1.amazonaws.com/app:1", "app", "1"),
        ] {
            let own = names().parse(image).unwrap().unwrap_or_else(|| panic!("{image}"));
            assert_eq!(
                (own.repository.as_str(), own.reference.to_string().as_str()),
                (repository, reference)
            );
        }
    }

    #[test]
    fn digest_wins_over_tag() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let own = names().parse(&format!("localhost:5000/app:1@{digest}")).unwrap().unwrap();
        assert_eq!((own.repository.as_str(), own.reference.to_string()), ("app", digest));
    }

    #[test]
    fn other_hosts_are_foreign() {
        for image in [
            "app",
            "library/app:1",
            "127.0.0.1:5001/app:1",
            "docker.io/app",
            "111111111111.dkr.ecr.us-east-1.amazonaws.com/app:1",
            "000000000000.dkr.ecr.us-east-1.evil.com/app:1",
        ] {
            assert_eq!(names().parse(image), Ok(None), "{image}");
        }
    }

    #[test]
    fn own_host_with_a_wrong_path_is_an_error() {
        assert!(names().parse("127.0.0.1:5000/App:1").is_err());
        assert!(names().parse("127.0.0.1:5000/app:").is_err());
    }
}
