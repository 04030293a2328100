//! The catalog: the repositories that the caller may see.
//!
//! A page examines at most 1,000 rows, so it may be short or empty and still have a next one. Its cursor is
//! sealed when the last row examined is one that the caller may not see.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::json;

use super::error::OciError;
use super::gate::Gate;
use super::query::{Query, encode};
use super::{Service, plain};

/// Rows that one page examines, and names that it shows at most.
const PAGE: u32 = 1000;
const LISTING: &str = "catalog";
/// No repository's name begins with it, so a sealed cursor is not taken for a name.
const SEALED: &str = "~";

impl Service {
    pub(super) async fn catalog(&self, gate: &Gate<'_>, query: &Query) -> Result<Response, OciError> {
        let limit = query.page_size(PAGE)? as usize;
        gate.allow_listing()?;
        let last = query.get("last").unwrap_or_default();
        let after = match last.strip_prefix(SEALED) {
            Some(sealed) => self.registry.reveal_cursor(LISTING, sealed).unwrap_or_default(),
            None => last.to_owned(),
        };
        if limit == 0 {
            return Ok(Json(json!({ "repositories": [] })).into_response());
        }
        let page = self.registry.repositories(&after, PAGE).await?;
        let (mut names, mut next) = (Vec::new(), page.next.clone());
        for repository in &page.items {
            if names.len() == limit {
                next = names.last().cloned();
                break;
            }
            if gate.may_list(repository) {
                names.push(repository.name.to_string());
            }
        }
        let cursor = next.map(|position| match names.last() == Some(&position) {
            true => position,
            false => format!("{SEALED}{}", self.registry.hide_cursor(LISTING, &position)),
        });
        let mut response = Json(json!({ "repositories": names })).into_response();
        if let Some(cursor) = cursor {
            let link = format!("</v2/_catalog?last={}&n={limit}>; rel=\"next\"", encode(&cursor));
            response.headers_mut().insert(header::LINK, plain(&link));
        }
        Ok(response)
    }
}
