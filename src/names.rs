//! Which image names are Berth's own.
//!
//! A name is Berth's own when its host is the advertised one, a name or address of this machine with a port of the
//! server's, one of `registry_names`, or ECR's host of this account in any region. Nobody else is ever asked for such
//! an image.

use registry_runtime::tls::{CertificateName, CertificateNames};
use registry_types::{AccountId, Reference, RepositoryName};

/// The hosts that stand for this registry.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    hosts: Vec<String>,
    ports: Vec<u16>,
    /// Names and addresses that lead to the ports.
    machine: CertificateNames,
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
        machine: CertificateNames,
        account_id: AccountId,
    ) -> Self {
        // With and without the port that clients leave out.
        let both = |host: &str| {
            let bare = host.strip_suffix(":443").unwrap_or(host);
            let has_port = bare.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            if has_port { vec![bare.to_owned()] } else { vec![bare.to_owned(), format!("{bare}:443")] }
        };
        let hosts =
            advertise.into_iter().chain(registry_names.iter().map(String::as_str)).flat_map(both).collect();
        Self { hosts, ports, machine, account_id }
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
        let machine = || {
            let with_port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            // Without a port it is HTTPS's own, and `vm/app` or `localhost/app` is no host at all.
            let port: u16 = with_port.or_else(|| host.contains('.').then_some(443))?;
            let name = CertificateName::parse(host).ok()?;
            let is_loopback =
                matches!(&name, CertificateName::Address(address) if address.to_canonical().is_loopback());
            Some(self.ports.contains(&port) && (is_loopback || self.machine.now().contains(&name)))
        };
        let ecr = || {
            let rest = host.strip_prefix(self.account_id.as_str())?.strip_prefix(".dkr.ecr.")?;
            let region = rest.strip_suffix(".amazonaws.com")?;
            Some(!region.is_empty() && !region.contains('.'))
        };
        self.hosts.iter().any(|own| own == host) || machine() == Some(true) || ecr() == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use registry_runtime::tls::{CertificateName, CertificateNames};

    use super::Names;

    fn names() -> Names {
        Names::new(
            Some("registry.example:443"),
            &["images.internal".to_owned()],
            vec![5000, 443],
            CertificateNames {
                names: vec![CertificateName::parse("192.0.2.1").unwrap()],
                every_address: false,
            },
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
            ("registry.example/app:v2", "app", "v2"),
            ("images.internal:443/app:v2", "app", "v2"),
            ("192.0.2.1:5000/app:1", "app", "1"),
            ("192.0.2.1/app:1", "app", "1"),
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
            "192.0.2.1:5001/app:1",
            "192.0.2.2:5000/app:1",
            "localhost/app:1",
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
