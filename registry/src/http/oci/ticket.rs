//! Tickets: URLs that fetch one layer without an `Authorization` header, as `GetDownloadUrlForLayer` gives them.
//!
//! A ticket is a bearer token whose scope is one blob. It carries no rights: what it fetches is decided anew, by
//! the rights that its session has then.

use http::{HeaderMap, HeaderValue, header};
use registry_types::{Digest, RepositoryName};

use super::query::Query;
use super::route::{Route, Target};

/// The parameter of the URL.
pub(in crate::http) const PARAMETER: &str = "ticket";

/// Kind of the scope that is one blob.
const KIND: &str = "layer";

/// The scope of a ticket, as a token holds it.
pub(in crate::http) fn scope(name: &RepositoryName, digest: &Digest) -> String {
    let [kind, name] = resource(name, digest);
    format!("{kind}:{name}:pull")
}

/// Kind and name of that scope's resource.
pub(super) fn resource(name: &RepositoryName, digest: &Digest) -> [String; 2] {
    [KIND.to_owned(), format!("{name}@{digest}")]
}

/// Takes the ticket of a request for a blob for its credentials, where it has no others.
pub(super) fn present(headers: &mut HeaderMap, query: &Query, route: Option<&Route>) {
    let Some(ticket) = query.get(PARAMETER) else { return };
    let is_blob = matches!(route, Some(Route::In { target: Target::Blob(_), .. }));
    if !is_blob || headers.contains_key(header::AUTHORIZATION) {
        return;
    }
    if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {ticket}")) {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
}
