//! Fallback tags: how clients list referrers in registries that do not know them (distribution-spec, "Referrers
//! Tag Schema"). The index under such a tag counts here too, so that content that was copied from such a registry,
//! or is kept by such a client, shows the same referrers everywhere.

use std::collections::BTreeMap;

use registry_metadata::{Repository, RepositoryUid, Tx, manifests, tags};
use registry_types::{Digest, Reference, Tag};
use serde::Deserialize;

use super::Referrer;
use crate::error::CoreError;
use crate::manifest::Annotations;
use crate::registry::Registry;

/// Longest algorithm and encoded part in a fallback tag.
const ALGORITHM: usize = 32;
const ENCODED: usize = 64;

#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: Digest,
    artifact_type: Option<String>,
    annotations: Option<Annotations>,
}

/// The tag that stands for the referrers of `subject`.
pub fn fallback_tag(subject: &Digest) -> Option<Tag> {
    let (algorithm, encoded) = subject.as_str().split_once(':')?;
    let cut = |text: &str, most: usize| text.get(..most).unwrap_or(text).to_owned();
    format!("{}-{}", cut(algorithm, ALGORITHM), cut(encoded, ENCODED)).parse().ok()
}

/// Whether a tag has the form of a fallback tag.
fn is_fallback(tag: &Tag) -> bool {
    tag.as_str().split_once('-').is_some_and(|(algorithm, encoded)| {
        matches!(algorithm, "sha256" | "sha512")
            && encoded.len() == ENCODED
            && encoded.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Whether an index only lists referrers: its tags, of which it has some, are all fallback tags. Such an index
/// holds nothing back from being deleted.
pub(crate) fn only_lists_referrers(
    tx: &Tx<'_>,
    repository: &RepositoryUid,
    index: &Digest,
) -> Result<bool, CoreError> {
    let tags = tags::of_digest(tx, repository, index, 16)?;
    Ok(!tags.is_empty() && tags.iter().all(is_fallback))
}

impl Registry {
    /// What the fallback tag of `subject` lists and the repository holds, by digest.
    pub(super) async fn fallback_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<BTreeMap<String, Referrer>, CoreError> {
        let Some(tag) = fallback_tag(subject) else { return Ok(BTreeMap::new()) };
        let index = match self.manifest(repository, &Reference::Tag(tag)).await {
            Ok(index) if index.media_type.is_index() => index,
            Ok(_) | Err(CoreError::ManifestNotFound) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        // One that was pushed before all of this was checked may be unreadable.
        let Ok(index) = serde_json::from_slice::<Index>(&index.bytes) else { return Ok(BTreeMap::new()) };
        let (uid, listed) = (repository.uid.clone(), index.manifests.unwrap_or_default());
        self.inner
            .metadata
            .read(move |tx| {
                let mut found = BTreeMap::new();
                for descriptor in &listed {
                    let Some(manifest) = manifests::by_digest(tx, &uid, &descriptor.digest)? else {
                        continue;
                    };
                    let own = manifest.artifact_type.or(manifest.config_media_type);
                    let artifact_type = descriptor.artifact_type.clone().or(own);
                    let referrer = Referrer {
                        digest: manifest.digest,
                        media_type: manifest.media_type,
                        size: manifest.size,
                        artifact_type: artifact_type.filter(|kind| !kind.is_empty()),
                        annotations: descriptor.annotations.clone().unwrap_or_default(),
                    };
                    found.insert(descriptor.digest.to_string(), referrer);
                }
                Ok::<_, CoreError>(found)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use registry_types::{Algorithm, Digest};

    use super::{fallback_tag, is_fallback};

    #[test]
    fn digests_have_fallback_tags() {
        let short = Digest::from_hash(Algorithm::Sha256, &[0xab; 32]);
        let long = Digest::from_hash(Algorithm::Sha512, &[0xab; 64]);
        assert_eq!(fallback_tag(&short).unwrap().as_str(), format!("sha256-{}", "ab".repeat(32)));
        assert_eq!(fallback_tag(&long).unwrap().as_str(), format!("sha512-{}", "ab".repeat(32)));
        assert!(is_fallback(&fallback_tag(&short).unwrap()) && is_fallback(&fallback_tag(&long).unwrap()));
        for other in ["sha256-12", "latest", &format!("sha256-{}.sig", "ab".repeat(32)), "md5-x"] {
            assert!(!is_fallback(&other.parse().unwrap()), "{other}");
        }
    }
}
