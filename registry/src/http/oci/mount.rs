//! Mounting: a blob that the registry holds already is linked instead of sent again.
//!
//! Whatever stands in the way, the client gets an upload, as if it had not asked; only a token that does not
//! reach the source is answered with the challenge for one that does. A caller learns nothing of
//! blobs that it may not read: the answer is the same, and so is the number of decisions behind it.

use registry_core::{Mount, PushTarget, Repository};
use registry_types::{Digest, RepositoryName};

use super::Service;
use super::error::OciError;
use super::gate::Gate;
use super::query::Query;

/// Repositories that are looked at when the client names none.
const CANDIDATES: u32 = 16;

/// What a POST to the uploads wants to be spared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) digest: Digest,
    pub(super) source: Source,
}

/// Where the blob is to be taken from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    Named(RepositoryName),
    /// Any repository that the caller may read: the client named none.
    Any,
}

impl Wish {
    /// Reads `?mount=` and `?from=`; what is malformed is no wish.
    pub(super) fn of(query: &Query) -> Option<Self> {
        let digest = query.get("mount")?.parse().ok()?;
        let source = match query.get("from") {
            Some(from) => Source::Named(from.parse().ok()?),
            None => Source::Any,
        };
        Some(Self { digest, source })
    }
}

impl Service {
    /// Mounts if that is possible and allowed.
    pub(super) async fn try_mount(
        &self,
        gate: &Gate<'_>,
        target: &PushTarget,
        wish: &Wish,
    ) -> Result<bool, OciError> {
        let source = match &wish.source {
            Source::Named(from) => {
                let source = self.registry.repository(from).await?;
                if gate.may_mount(target, from, source.as_ref())? { source } else { None }
            }
            Source::Any => self.any_source(gate, target, &wish.digest).await?,
        };
        let Some(source) = source else { return Ok(false) };
        let mounted = self.registry.mount_blob(target, &source, &wish.digest).await?;
        Ok(matches!(mounted, Mount::Mounted(_)))
    }

    /// A repository that holds the blob and that the caller may read. A fixed number of decisions is made,
    /// those that no repository is left for about the target, so that time does not tell what exists.
    async fn any_source(
        &self,
        gate: &Gate<'_>,
        target: &PushTarget,
        digest: &Digest,
    ) -> Result<Option<Repository>, OciError> {
        let holders = self.registry.holders(target, digest, CANDIDATES).await?;
        let mut readable = None;
        for place in 0..CANDIDATES as usize {
            match holders.get(place) {
                Some(holder) if gate.may_read(&holder.name, Some(holder)) => {
                    readable = readable.or(Some(holder));
                }
                Some(_) => {}
                None => drop(gate.may_read(target.name(), None)),
            }
        }
        let Some(source) = readable else { return Ok(None) };
        Ok(gate.may_mount(target, &source.name, Some(source))?.then(|| source.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Source, Wish};
    use crate::http::oci::query::Query;

    const ZEROS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn what_is_malformed_is_no_wish() {
        let wish = |query: &str| Wish::of(&Query::parse(Some(query)));
        let digest = || ZEROS.parse().unwrap();
        let named = Some(Wish { digest: digest(), source: Source::Named("a/b".parse().unwrap()) });
        assert_eq!(wish(&format!("mount={ZEROS}&from=a%2Fb")), named);
        assert_eq!(wish(&format!("mount={ZEROS}")), Some(Wish { digest: digest(), source: Source::Any }));
        for query in [
            "",
            "from=a",
            "mount=sha256:bad",
            &format!("mount={ZEROS}&from=../a"),
            &format!("mount={ZEROS}&from="),
        ] {
            assert_eq!(wish(query), None, "{query}");
        }
    }
}
