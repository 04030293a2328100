//! Names of images that are not Berth's own, spelled out in full.
//!
//! Docker takes short names, and ids of images where it expects a name. A task must not reach an image of
//! the host by its id, nor Berth's images by the name of the agent's own endpoint.

/// A name in full: `registry.example/app:1`, `docker.io/library/busybox:latest`, `…@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignImage {
    pub(crate) reference: String,
    pub(crate) by_digest: bool,
}

impl ForeignImage {
    /// `pull_port` is that of the agent's endpoint.
    pub(crate) fn parse(image: &str, pull_port: u16) -> Result<Self, String> {
        let malformed = || format!("{image} is no name of an image");
        let (name, digest) = match image.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (image, None),
        };
        if digest.is_some_and(|digest| digest.parse::<registry_types::Digest>().is_err()) {
            return Err(malformed());
        }
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, rest.to_owned())
            }
            Some(_) => ("docker.io", name.to_owned()),
            None => ("docker.io", format!("library/{name}")),
        };
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte);
        let bare_id = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let tag_is_plain = |tag: &str| {
            !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let path_is_plain =
            path.bytes().all(plain) && path.split('/').all(|part| !part.is_empty() && part != "..");
        let host_is_plain = host.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[')
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        if !path_is_plain || bare_id || !tag.is_none_or(tag_is_plain) || !host_is_plain {
            return Err(malformed());
        }
        if host.rsplit_once(':').is_some_and(|(_, port)| port == pull_port.to_string()) && is_loopback(host) {
            return Err(format!("{image} names the agent's own endpoint, which serves no task"));
        }
        let reference = match digest {
            Some(digest) => format!("{host}/{path}@{digest}"),
            None => format!("{host}/{path}:{}", tag.unwrap_or("latest")),
        };
        Ok(Self { reference, by_digest: digest.is_some() })
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.starts_with("127.") || name == "[::1]"
}

#[cfg(test)]
mod tests {
    use super::ForeignImage;

    #[test]
    fn names_are_spelled_out() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (image, reference) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("team/app:2", "docker.io/team/app:2".to_owned()),
            ("ghcr.io/team/app", "ghcr.io/team/app:latest".to_owned()),
            ("localhost:5001/app:1", "localhost:5001/app:1".to_owned()),
            (&format!("app:1@{digest}"), format!("docker.io/library/app@{digest}")),
        ] {
            assert_eq!(ForeignImage::parse(image, 4000).unwrap().reference, reference);
        }
    }

    #[test]
    fn ids_and_the_agents_own_endpoint_are_refused() {
        let id = "a".repeat(64);
        for image in [
            id.as_str(),
            "",
            "App",
            "a b",
            "../x",
            "app:",
            "app@sha256:1",
            "127.0.0.1:4000/app:1",
            "localhost:4000/app",
            "127.0.1.1:4000/app",
        ] {
            assert!(ForeignImage::parse(image, 4000).is_err(), "{image}");
        }
        // Docker itself would take this for an id; in full it is a name.
        let prefix = ForeignImage::parse("abcdef", 4000).unwrap();
        assert_eq!(prefix.reference, "docker.io/library/abcdef:latest");
    }
}
