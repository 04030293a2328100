//! The list of a repository's tags.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header;
use registry_core::TagNames;
use registry_types::RepositoryName;
use serde::{Serialize, Serializer};

use super::error::OciError;
use super::gate::Gate;
use super::query::{Query, encode};
use super::{Service, plain};

/// Tags on one page.
const PAGE: u32 = 1000;

#[derive(Serialize)]
struct Page<'a> {
    name: &'a RepositoryName,
    #[serde(serialize_with = "names")]
    tags: TagNames,
}

fn names<S: Serializer>(names: &TagNames, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter())
}

impl Service {
    pub(super) async fn list_tags(
        &self,
        gate: &Gate<'_>,
        name: &RepositoryName,
        query: &Query,
    ) -> Result<Response, OciError> {
        let limit = query.page_size(PAGE)?;
        let repository = gate.repository(name).await?;
        if limit == 0 {
            return Ok(Json(Page { name, tags: TagNames::default() }).into_response());
        }
        let (tags, next) =
            self.registry.tags(&repository, query.get("last").unwrap_or_default(), limit).await?;
        let mut response = Json(Page { name, tags }).into_response();
        if let Some(last) = next {
            let link = format!("</v2/{name}/tags/list?last={}&n={limit}>; rel=\"next\"", encode(&last));
            response.headers_mut().insert(header::LINK, plain(&link));
        }
        Ok(response)
    }
}
