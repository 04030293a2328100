//! Who refers to a manifest: always an index, whatever exists. Where the repository has an upstream, who refers to it
//! there is listed too.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};
use registry_core::{Page, Referrer};
use registry_types::{Digest, MediaType, RepositoryName};
use serde_json::{Value, json};

use super::error::OciError;
use super::gate::Gate;
use super::query::{Query, encode};
use super::through::may_be_older;
use super::{Service, plain};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Descriptors on one page; fewer when their annotations are long.
const PAGE: u32 = 1000;

impl Service {
    pub(super) async fn list_referrers(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        subject: &Digest,
        query: &Query,
    ) -> Result<Response, OciError> {
        let limit = query.page_size(PAGE)?.max(1);
        let repository = self.registry.repository(name).await?;
        gate.allow(name, repository.as_ref())?;
        let artifact_type = query.get("artifactType").filter(|wanted| !wanted.is_empty());
        let after = query.get("last").unwrap_or_default();
        let mut page = match &repository {
            Some(repository) => {
                self.registry.referrers(repository, subject, artifact_type, after, limit).await?
            }
            None => Page { items: Vec::new(), next: None },
        };
        let mut warning = None;
        if let Some(rule) = self.pull_through.rule(name) {
            let upstream = self.pull_through.referrers(gate, &rule, name, repository.as_ref(), subject);
            match Box::pin(upstream).await {
                Ok(Some(listed)) => page = page.merged(listed, artifact_type, after, limit),
                Ok(None) => warning = Some(may_be_older(&rule, "the caller may not import from it")),
                Err(error) => {
                    self.pull_through.note_stale();
                    warning = Some(may_be_older(&rule, &error.to_string()));
                }
            }
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_INDEX,
            "manifests": page.items.iter().map(descriptor).collect::<Vec<_>>(),
        });
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(MediaType::OCI_INDEX))];
        let mut response = (content_type, index.to_string()).into_response();
        if artifact_type.is_some() {
            let value = HeaderValue::from_static("artifactType");
            response.headers_mut().insert(FILTERS_APPLIED, value);
        }
        if let Some(warning) = warning {
            response.headers_mut().insert(header::WARNING, warning);
        }
        if let Some(next) = page.next {
            let filter =
                artifact_type.map(|wanted| format!("&artifactType={}", encode(wanted))).unwrap_or_default();
            let next = encode(&next);
            let link =
                format!("</v2/{name}/referrers/{subject}?last={next}&n={limit}{filter}>; rel=\"next\"");
            response.headers_mut().insert(header::LINK, plain(&link));
        }
        Ok(response)
    }
}

fn descriptor(referrer: &Referrer) -> Value {
    let mut descriptor = json!({
        "mediaType": referrer.media_type,
        "size": referrer.size,
        "digest": referrer.digest,
    });
    if let Some(artifact_type) = &referrer.artifact_type {
        descriptor["artifactType"] = json!(artifact_type);
    }
    if !referrer.annotations.is_empty() {
        descriptor["annotations"] = json!(referrer.annotations);
    }
    descriptor
}
