//! Tags: listed, deleted, and the one place that decides whether a tag may move.

use registry_metadata::tags::TagNames;
use registry_metadata::{Repository, TagMutability, Tx, tags};
use registry_types::{Digest, Tag};

use crate::error::CoreError;
use crate::registry::Registry;

impl Registry {
    /// Tags in byte order after `after`, which need not exist; and where the next page begins, if there is one.
    pub async fn tags(
        &self,
        repository: &Repository,
        after: &str,
        limit: u32,
    ) -> Result<(TagNames, Option<String>), CoreError> {
        let (uid, after) = (repository.uid.clone(), after.to_owned());
        let mut names = self
            .inner
            .metadata
            .read(move |tx| Ok::<_, CoreError>(tags::list_after(tx, &uid, &after, limit.saturating_add(1))?))
            .await?;
        let more = names.len() > limit as usize;
        names.truncate(limit as usize);
        let next = names.iter().last().filter(|_| more).map(str::to_owned);
        Ok((names, next))
    }

    /// Removes a tag and nothing else; its manifest stays. Gives the digest it pointed at.
    ///
    /// # Errors
    /// `TagNotFound`.
    pub async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<Digest, CoreError> {
        let (uid, tag) = (repository.uid.clone(), tag.clone());
        self.inner
            .metadata
            .write(move |tx| {
                let row = tags::by_name(tx, &uid, &tag)?.ok_or(CoreError::TagNotFound)?;
                tags::delete(tx, &uid, &tag)?;
                Ok(row.digest)
            })
            .await
    }
}

/// Whether `tag` may be made to point at `digest`; true when that changes something.
///
/// # Errors
/// `TagImmutable` when it points elsewhere and the repository's setting holds it there.
pub(crate) fn may_move(
    tx: &Tx<'_>,
    repository: &Repository,
    tag: &Tag,
    digest: &Digest,
) -> Result<bool, CoreError> {
    match tags::by_name(tx, &repository.uid, tag)? {
        None => Ok(true),
        Some(row) if row.digest == *digest => Ok(false),
        Some(row) if is_immutable(&repository.tag_mutability, tag) => {
            Err(CoreError::TagImmutable { tag: tag.clone(), digest: row.digest })
        }
        Some(_) => Ok(true),
    }
}

/// Points a tag at a manifest, if it may; true when that changed something.
pub(crate) fn move_tag(
    tx: &Tx<'_>,
    repository: &Repository,
    tag: &Tag,
    digest: &Digest,
    now_ms: i64,
) -> Result<bool, CoreError> {
    let moves = may_move(tx, repository, tag, digest)?;
    if moves {
        tags::put(tx, &repository.uid, tag, digest, now_ms)?;
    }
    Ok(moves)
}

/// Checks after tags moved to a manifest that they are no more than an image may have. Whoever lists images
/// holds all tags of one at once.
///
/// # Errors
/// `TooManyTagsOfImage`.
pub(crate) fn check_count(
    tx: &Tx<'_>,
    repository: &Repository,
    digest: &Digest,
    limit: u32,
) -> Result<(), CoreError> {
    let exceeds = tags::are_more_than(tx, &repository.uid, digest, limit)?;
    if exceeds { Err(CoreError::TooManyTagsOfImage { limit }) } else { Ok(()) }
}

fn is_immutable(mutability: &TagMutability, tag: &Tag) -> bool {
    let excluded =
        mutability.exclusions().iter().any(|exclusion| matches_pattern(&exclusion.0, tag.as_str()));
    match mutability {
        TagMutability::Mutable => false,
        TagMutability::Immutable => true,
        TagMutability::MutableWithExclusion(_) => excluded,
        TagMutability::ImmutableWithExclusion(_) => !excluded,
    }
}

/// Whether the whole tag matches the pattern, `*` standing for any run of characters. Linear in both: the
/// first fitting place for each part is taken, and the last part must end the tag.
pub(crate) fn matches_pattern(pattern: &str, tag: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = tag.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    let mut rest = rest;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use registry_metadata::{ImmutabilityExclusion, TagMutability};

    use super::{is_immutable, matches_pattern};

    #[test]
    fn patterns_match_the_whole_tag() {
        for (pattern, tag, matched) in [
            ("latest", "latest", true),
            ("latest", "latest-1", false),
            ("*", "anything", true),
            ("dev-*", "dev-1", true),
            ("dev-*", "prod-dev-1", false),
            ("*-rc", "v1-rc", true),
            ("*-rc", "v1-rc2", false),
            ("v*.*.0", "v1.2.0", true),
            ("v*.*.0", "v1.0", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
        ] {
            assert_eq!(matches_pattern(pattern, tag), matched, "{pattern} {tag}");
        }
    }

    #[test]
    fn exclusions_turn_the_setting_round() {
        let latest = || vec![ImmutabilityExclusion("latest".into())];
        for (setting, latest_held, other_held) in [
            (TagMutability::Mutable, false, false),
            (TagMutability::Immutable, true, true),
            (TagMutability::MutableWithExclusion(latest()), true, false),
            (TagMutability::ImmutableWithExclusion(latest()), false, true),
        ] {
            assert_eq!(is_immutable(&setting, &"latest".parse().unwrap()), latest_held, "{setting:?}");
            assert_eq!(is_immutable(&setting, &"v1".parse().unwrap()), other_held, "{setting:?}");
        }
    }
}
