//! Who refers to a manifest, as its upstream lists it: signatures, bills of materials.
//!
//! The list is asked for each time and not kept. What somebody then asks for comes, and stays, like everything else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::header::LINK;
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use registry_core::{PullThroughRule, Referrer, Repository, fallback_tag};
use registry_types::{Digest, MediaType, RepositoryName};
use serde::Deserialize;
use serde_json::Value;

use super::client::Source;
use super::error::UpstreamError;
use super::{IMPORT, Inner, PullThrough, Reader};

/// How long a list may take, how long it may be, and in how many pages.
const LIST_TIME: Duration = Duration::from_secs(20);
const LIST_BYTES: usize = 4 << 20;
const PAGES: usize = 16;

type Listed = BTreeMap<String, Referrer>;

#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

impl PullThrough {
    /// Who refers to `subject` at the upstream, by digest; `None` when the reader may not import from it.
    ///
    /// # Errors
    /// Why the upstream's list is not known.
    pub(crate) async fn referrers<R: Reader>(
        &self,
        reader: &R,
        rule: &PullThroughRule,
        name: &RepositoryName,
        repository: Option<&Repository>,
        subject: &Digest,
    ) -> Result<Option<Listed>, UpstreamError> {
        if !reader.may(IMPORT, name, repository) {
            return Ok(None);
        }
        if self.inner.is_silent(rule) {
            return Err(UpstreamError::Away("it gave no answer a moment ago".to_owned()));
        }
        let listed = self.inner.listed_referrers(rule, name, subject).await;
        match &listed {
            Ok(_) => drop(self.inner.silent.lock().remove(&rule.prefix)),
            Err(error) if error.is_silence() => {
                self.inner.silent.lock().insert(rule.prefix.clone(), Instant::now());
            }
            Err(_) => {}
        }
        listed.map(Some)
    }
}

impl Inner {
    async fn listed_referrers(
        &self,
        rule: &PullThroughRule,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Result<Listed, UpstreamError> {
        let source = self.source(rule, name.as_str())?;
        let slot = tokio::time::timeout(LIST_TIME, self.slots.acquire()).await;
        let _slot = slot.map_err(|_| UpstreamError::Busy)?.map_err(|_| UpstreamError::Own)?;
        let listed = tokio::time::timeout(LIST_TIME, self.all_pages(&source, subject)).await;
        listed.map_err(|_| UpstreamError::Away("no list of referrers came in time".to_owned()))?
    }

    async fn all_pages(&self, source: &Source, subject: &Digest) -> Result<Listed, UpstreamError> {
        let (mut found, mut room, mut next) = (Listed::new(), LIST_BYTES, None);
        for _ in 0..PAGES {
            let answer = match self.client.referrers(source, subject.as_str(), next.as_deref()).await {
                // It does not know of referrers.
                Err(UpstreamError::Missing | UpstreamError::Refused(_)) if next.is_none() => {
                    return self.tagged_referrers(source, subject).await;
                }
                answer => answer?,
            };
            next = next_page(answer.headers());
            room -= add(&mut found, answer, room).await?;
            if next.is_none() {
                return Ok(found);
            }
        }
        Err(UpstreamError::Wrong("its list of referrers does not end".to_owned()))
    }

    /// What the fallback tag lists (distribution-spec, "Referrers Tag Schema").
    async fn tagged_referrers(&self, source: &Source, subject: &Digest) -> Result<Listed, UpstreamError> {
        let mut found = Listed::new();
        let Some(tag) = fallback_tag(subject) else { return Ok(found) };
        match self.client.manifest(source, Method::GET, tag.as_str()).await {
            Ok(answer) => add(&mut found, answer, LIST_BYTES).await.map(drop)?,
            Err(UpstreamError::Missing) => {}
            Err(error) => return Err(error),
        }
        Ok(found)
    }
}

/// Adds what an index lists, leaving out what this registry could not fetch; gives the index's length.
async fn add(found: &mut Listed, answer: Response<Incoming>, room: usize) -> Result<usize, UpstreamError> {
    let wrong = |what: &str| UpstreamError::Wrong(format!("its list of referrers {what}"));
    let body = Limited::new(answer.into_body(), room).collect().await;
    let body = body.map_err(|_| wrong("broke off, or is too long"))?.to_bytes();
    let index: Index = serde_json::from_slice(&body).map_err(|_| wrong("is malformed"))?;
    for descriptor in index.manifests.unwrap_or_default() {
        let Ok(descriptor) = serde_json::from_value::<Descriptor>(descriptor) else { continue };
        let referrer = Referrer {
            media_type: MediaType::from_content_type(&descriptor.media_type),
            size: descriptor.size,
            artifact_type: descriptor.artifact_type.filter(|kind| !kind.is_empty()),
            annotations: descriptor.annotations.unwrap_or_default(),
            digest: descriptor.digest,
        };
        found.insert(referrer.digest.to_string(), referrer);
    }
    Ok(body.len())
}

/// Where the next page is (RFC 8288).
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|value| value.split(',')).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|one| matches!(one.trim(), "rel=\"next\"" | "rel=next"));
        is_next.then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use http::header::LINK;
    use http::{HeaderMap, HeaderValue};

    use super::next_page;

    #[test]
    fn the_next_page_is_where_the_link_says() {
        for (value, next) in [
            ("</v2/a/referrers/b?last=x&n=2>; rel=\"next\"", Some("/v2/a/referrers/b?last=x&n=2")),
            ("</a>; rel=\"prev\", </b>; title=\"x\"; rel=next", Some("/b")),
            ("</a>; rel=\"last\"", None),
            ("nonsense", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::from_static(value));
            assert_eq!(next_page(&headers).as_deref(), next, "{value}");
        }
    }
}
