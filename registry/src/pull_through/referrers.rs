//! Who refers to a manifest, as its upstream lists it: signatures, bills of materials.
//!
//! The list is asked for each time and not kept. What somebody then asks for comes, and stays, like everything else.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LINK};
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use registry_core::{PullThroughRule, Referrer, Repository, fallback_tag};
use registry_types::{Digest, MediaType, RepositoryName};
use serde::Deserialize;

use super::client::{Client, Source};
use super::error::UpstreamError;
use super::{IMPORT, Inner, PullThrough, Reader};

/// Lists that are read at a time, beside what is fetched; how long one more waits, and how long one may take.
pub(super) const LISTS: usize = 8;
const WAITING_TIME: Duration = Duration::from_secs(2);
const LIST_TIME: Duration = Duration::from_secs(20);

/// How long a list may be: its pages, the bytes of each, and descriptors and annotations of them together.
const PAGES: usize = 16;
const PAGE_BYTES: usize = 1 << 20;
const ENTRIES: usize = 30_000;

type Listed = BTreeMap<String, Referrer>;

#[derive(Deserialize)]
struct Index {
    /// `null` where nobody refers to the subject.
    #[serde(deserialize_with = "Option::deserialize")]
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

/// What was read of a list.
#[derive(Default)]
struct List {
    found: Listed,
    entries: usize,
}

impl PullThrough {
    /// Who refers to `subject` at the upstream, by digest; `None` when the reader may not import from it. That the
    /// upstream does not say is no reason to leave it alone with the rest.
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
        self.inner.listed_referrers(rule, name, subject).await.map(Some)
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
        let slot = tokio::time::timeout(WAITING_TIME, self.lists.acquire()).await;
        let _slot = slot.map_err(|_| UpstreamError::Busy)?.map_err(|_| UpstreamError::Own)?;
        let listed = tokio::time::timeout(LIST_TIME, self.all_pages(&source, subject)).await;
        listed.map_err(|_| UpstreamError::Away("no list of referrers came in time".to_owned()))?
    }

    async fn all_pages(&self, source: &Source, subject: &Digest) -> Result<Listed, UpstreamError> {
        let mut list = List::default();
        let mut url = Client::referrers_url(source, subject.as_str())?;
        for page in 0..PAGES {
            let answer = match self.client.referrers(source, &url).await {
                Ok(answer) if is_index(answer.headers()) => answer,
                // It does not know of referrers.
                Ok(_) | Err(UpstreamError::Missing | UpstreamError::Refused(_)) if page == 0 => {
                    return self.tagged_referrers(source, subject).await;
                }
                Ok(_) => return Err(wrong("goes on as something else")),
                Err(error) => return Err(error),
            };
            let next = next_page(answer.headers());
            match index(&read(answer).await?) {
                Some(index) => list.add(index)?,
                None if page == 0 => return self.tagged_referrers(source, subject).await,
                None => return Err(wrong("is malformed")),
            }
            let Some(next) = next else { return Ok(list.found) };
            url = url.join(&next).map_err(|_| wrong("goes on nowhere"))?;
        }
        Err(wrong("does not end"))
    }

    /// What the fallback tag lists (distribution-spec, "Referrers Tag Schema").
    async fn tagged_referrers(&self, source: &Source, subject: &Digest) -> Result<Listed, UpstreamError> {
        let mut list = List::default();
        let Some(tag) = fallback_tag(subject) else { return Ok(list.found) };
        match self.client.manifest(source, Method::GET, tag.as_str()).await {
            Ok(answer) => list.add(index(&read(answer).await?).ok_or_else(|| wrong("is malformed"))?)?,
            Err(UpstreamError::Missing) => {}
            Err(error) => return Err(error),
        }
        Ok(list.found)
    }
}

impl List {
    /// Adds what an index lists, leaving out what this registry could not fetch.
    fn add(&mut self, index: Index) -> Result<(), UpstreamError> {
        for descriptor in index.manifests.unwrap_or_default() {
            let annotations = descriptor.annotations.unwrap_or_default();
            self.entries += 1 + annotations.len();
            if self.entries > ENTRIES {
                return Err(wrong("is too long"));
            }
            let Ok(digest) = descriptor.digest.parse::<Digest>() else { continue };
            let referrer = Referrer {
                media_type: MediaType::from_content_type(&descriptor.media_type),
                size: descriptor.size,
                artifact_type: descriptor.artifact_type.filter(|kind| !kind.is_empty()),
                annotations,
                digest,
            };
            self.found.insert(referrer.digest.to_string(), referrer);
        }
        Ok(())
    }
}

async fn read(answer: Response<Incoming>) -> Result<Bytes, UpstreamError> {
    let body = Limited::new(answer.into_body(), PAGE_BYTES).collect().await;
    Ok(body.map_err(|_| wrong("broke off, or is too long"))?.to_bytes())
}

/// `None` for what is no index.
fn index(body: &[u8]) -> Option<Index> {
    serde_json::from_slice(body).ok()
}

fn is_index(headers: &HeaderMap) -> bool {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case(MediaType::OCI_INDEX)
}

fn wrong(what: &str) -> UpstreamError {
    UpstreamError::Wrong(format!("its list of referrers {what}"))
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

    use super::{ENTRIES, List, index, next_page};

    #[test]
    fn a_list_is_bounded_in_all_that_it_holds() {
        let list = |annotations: usize| {
            let annotations: Vec<String> = (0..annotations).map(|at| format!("\"{at}\":\"\"")).collect();
            let digest = format!("sha256:{}", "a".repeat(64));
            let body = format!(
                r#"{{"manifests":[{{"mediaType":"a","digest":"{digest}","size":1,"annotations":{{{}}}}},
                {{"mediaType":"a","digest":"md5:no","size":1}}]}}"#,
                annotations.join(",")
            );
            let mut list = List::default();
            list.add(index(body.as_bytes()).unwrap()).map(|()| list.found.len())
        };
        assert_eq!(list(ENTRIES - 2), Ok(1));
        assert!(list(ENTRIES - 1).is_err());
    }

    #[test]
    fn what_lists_no_descriptors_is_no_index() {
        for body in [r#"{"manifests":null}"#, r#"{"manifests":[]}"#] {
            assert!(index(body.as_bytes()).is_some(), "{body}");
        }
        for body in ["<html>", "{}", r#"{"errors":[]}"#, r#"{"manifests":[[],[]]}"#, r#"{"manifests":[{}]}"#]
        {
            assert!(index(body.as_bytes()).is_none(), "{body}");
        }
    }

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
