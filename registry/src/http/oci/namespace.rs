//! `?ns=`: which registry a client means that takes this one for a mirror (distribution-spec, "Registry Proxying").
//!
//! A namespace that is known names a prefix of repositories here, and the answer says so in `OCI-Namespace`; one
//! that is not is left out of account, as by every registry that does not know the parameter.

use std::collections::BTreeMap;

use axum::response::Response;
use http::{HeaderName, HeaderValue, Method};

use super::error::OciError;
use super::query::Query;
use super::route::Route;

const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// The namespaces that are served here, each with the prefix of its repositories: empty for this registry's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespaces(BTreeMap<String, String>);

impl Namespaces {
    pub(super) fn new(own: Vec<String>, mirrors: BTreeMap<String, String>) -> Self {
        Self(own.into_iter().map(|name| (name, String::new())).chain(mirrors).collect())
    }

    /// The namespace of a request that reads, if it names one that is served here, and where its route then leads.
    ///
    /// # Errors
    /// `NAME_INVALID` when the prefix makes the name too long.
    pub(super) fn apply(
        &self,
        method: &Method,
        query: &Query,
        route: &mut Route,
    ) -> Result<Option<HeaderValue>, OciError> {
        let Some((namespace, prefix)) = query.get("ns").and_then(|asked| self.0.get_key_value(asked)) else {
            return Ok(None);
        };
        let Route::In { name, .. } = route else { return Ok(None) };
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Ok(None);
        }
        if !prefix.is_empty() {
            *name = format!("{prefix}/{name}").parse().map_err(OciError::name)?;
        }
        Ok(HeaderValue::from_str(namespace).ok())
    }
}

/// Says which namespace was answered for.
pub(super) fn note(response: &mut Response, namespace: Option<HeaderValue>) {
    if let Some(namespace) = namespace {
        response.headers_mut().insert(OCI_NAMESPACE, namespace);
    }
}
