//! What a manifest names, so that a grant for it covers its parts.

use registry_types::Digest;
use serde::Deserialize;

/// Digests by what they are fetched as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) manifests: Vec<String>,
    pub(crate) blobs: Vec<String>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    #[serde(default)]
    urls: Vec<String>,
}

/// Reads a manifest or an index. A layer with URLs is refused: an engine might fetch from them.
pub(crate) fn named(bytes: &[u8]) -> Result<Named, &'static str> {
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|_| "the manifest is malformed")?;
    if manifest.layers.iter().chain(&manifest.manifests).any(|descriptor| !descriptor.urls.is_empty()) {
        return Err("the image has layers that lie elsewhere (urls), which Berth never fetches");
    }
    let digests =
        |descriptors: Vec<Descriptor>| descriptors.into_iter().map(|one| one.digest.as_str().to_owned());
    let config = manifest.config.into_iter().collect();
    Ok(Named {
        manifests: digests(manifest.manifests).collect(),
        blobs: digests(config).chain(digests(manifest.layers)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn layers_that_lie_elsewhere_are_refused() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let plain = format!(r#"{{"config":{{"digest":"{digest}"}},"layers":[{{"digest":"{digest}"}}]}}"#);
        assert_eq!(named(plain.as_bytes()).unwrap().blobs.len(), 2);
        let elsewhere =
            format!(r#"{{"layers":[{{"digest":"{digest}","urls":["http://169.254.169.254/"]}}]}}"#);
        assert!(named(elsewhere.as_bytes()).is_err());
        assert!(named(br#"{"layers":[{"digest":"sha256:../../x"}]}"#).is_err());
    }
}
