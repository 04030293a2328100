//! From method and path to what is asked for.
//!
//! Names hold slashes and may hold segments like `blobs` or `tags`, so paths are read from the right.
//! Each segment is decoded once; one that then holds a slash is no segment of ours.

use http::Method;
use percent_encoding::percent_decode_str;
use registry_types::{Digest, Reference, RepositoryName};

use super::error::OciError;
use super::operation::Operation;

/// A request's target, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Ping,
    Catalog,
    /// Everything below one repository.
    In {
        operation: Operation,
        name: RepositoryName,
        target: Target,
    },
}

/// What in a repository is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Tags,
    Uploads,
    Upload(String),
    Blob(Digest),
    Manifest(Reference),
    Referrers(Digest),
}

impl Route {
    /// Reads `/v2`, `/v2/` and what is below.
    ///
    /// # Errors
    /// 404 for a path that is none of the protocol's, 400 for a malformed name, digest or tag, 405 for a
    /// method that the path does not know.
    pub(super) fn parse(method: &Method, path: &str) -> Result<Self, OciError> {
        let rest = path.strip_prefix("/v2").ok_or_else(OciError::no_such_path)?;
        let segments = segments(rest)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            [] | [""] => on(method, &[(Method::GET, Self::Ping), (Method::HEAD, Self::Ping)]),
            ["_catalog"] => on(method, &[(Method::GET, Self::Catalog), (Method::HEAD, Self::Catalog)]),
            [name @ .., "blobs", "uploads", ""] | [name @ .., "blobs", "uploads"] => {
                below(method, name, Target::Uploads, &[(Method::POST, Operation::PostUpload)])
            }
            [name @ .., "blobs", "uploads", uid] => {
                let operations = [
                    (Method::GET, Operation::GetUpload),
                    (Method::HEAD, Operation::GetUpload),
                    (Method::PATCH, Operation::PatchUpload),
                    (Method::PUT, Operation::PutUpload),
                    (Method::DELETE, Operation::DeleteUpload),
                ];
                below(method, name, Target::Upload((*uid).to_owned()), &operations)
            }
            [name @ .., "blobs", digest] => {
                let operations = [
                    (Method::GET, Operation::GetBlob),
                    (Method::HEAD, Operation::HeadBlob),
                    (Method::DELETE, Operation::DeleteBlob),
                ];
                below(method, name, Target::Blob(OciError::digest(digest)?), &operations)
            }
            [name @ .., "manifests", reference] => {
                let operations = [
                    (Method::GET, Operation::GetManifest),
                    (Method::HEAD, Operation::HeadManifest),
                    (Method::PUT, Operation::PutManifest),
                    (Method::DELETE, Operation::DeleteManifest),
                ];
                below(method, name, Target::Manifest(OciError::reference(reference)?), &operations)
            }
            [name @ .., "tags", "list"] => {
                let operations = [(Method::GET, Operation::ListTags), (Method::HEAD, Operation::ListTags)];
                below(method, name, Target::Tags, &operations)
            }
            [name @ .., "referrers", digest] => {
                let operations =
                    [(Method::GET, Operation::ListReferrers), (Method::HEAD, Operation::ListReferrers)];
                below(method, name, Target::Referrers(OciError::digest(digest)?), &operations)
            }
            // Only digests hold colons: one that is cut up by slashes is malformed, not somewhere else.
            other => match other.iter().find(|segment| segment.contains(':')) {
                Some(digest) => Err(OciError::digest(digest).err().unwrap_or_else(OciError::no_such_path)),
                None => Err(OciError::no_such_path()),
            },
        }
    }

    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Ping => Operation::Ping,
            Self::Catalog => Operation::Catalog,
            Self::In { operation, .. } => *operation,
        }
    }

    /// The scope a token needs: kind and name of the resource.
    pub(super) fn scope_resource(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Ping => None,
            Self::Catalog => Some(("registry", "catalog")),
            Self::In { name, .. } => Some(("repository", name.as_str())),
        }
    }
}

/// The segments after `/v2`, each decoded once.
fn segments(rest: &str) -> Result<Vec<String>, OciError> {
    let Some(rest) = rest.strip_prefix('/') else {
        return if rest.is_empty() { Ok(Vec::new()) } else { Err(OciError::no_such_path()) };
    };
    rest.split('/')
        .map(|segment| {
            let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| OciError::name_format())?;
            if decoded.contains('/') { Err(OciError::name_format()) } else { Ok(decoded.into_owned()) }
        })
        .collect()
}

fn on(method: &Method, known: &[(Method, Route)]) -> Result<Route, OciError> {
    let found = known.iter().find(|(own, _)| own == method);
    found.map(|(_, route)| route.clone()).ok_or_else(|| OciError::method(known.iter().map(|(own, _)| own)))
}

fn below(
    method: &Method,
    name: &[&str],
    target: Target,
    known: &[(Method, Operation)],
) -> Result<Route, OciError> {
    let name: RepositoryName = name.join("/").parse().map_err(OciError::name)?;
    let found = known.iter().find(|(own, _)| own == method);
    let refused = || OciError::method(known.iter().map(|(own, _)| own));
    let operation = found.map(|(_, operation)| *operation).ok_or_else(refused)?;
    Ok(Route::In { operation, name, target })
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode, header};

    use super::{Route, Target};
    use crate::http::oci::operation::Operation;

    const ZEROS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn parse(method: Method, path: &str) -> (Operation, String, Option<Target>) {
        match Route::parse(&method, path).unwrap() {
            Route::In { operation, name, target } => (operation, name.to_string(), Some(target)),
            other => (other.operation(), String::new(), None),
        }
    }

    #[test]
    fn the_base_answers_with_and_without_its_slash() {
        for path in ["/v2", "/v2/"] {
            assert_eq!(Route::parse(&Method::GET, path).unwrap(), Route::Ping);
        }
    }

    #[test]
    fn names_may_hold_the_words_of_the_protocol() {
        for (path, name) in [
            ("/v2/a/manifests/latest", "a"),
            ("/v2/a/b/c/manifests/latest", "a/b/c"),
            ("/v2/blobs/uploads/manifests/latest", "blobs/uploads"),
            ("/v2/manifests/manifests/latest", "manifests"),
            ("/v2/tags/list/manifests/latest", "tags/list"),
            ("/v2/a/tags/manifests/list", "a/tags"),
        ] {
            let (operation, found, target) = parse(Method::GET, path);
            assert_eq!((operation, found.as_str()), (Operation::GetManifest, name), "{path}");
            assert!(matches!(target, Some(Target::Manifest(_))), "{path}");
        }
        assert_eq!(parse(Method::GET, "/v2/a/manifests/tags/list").1, "a/manifests");
        assert_eq!(parse(Method::POST, "/v2/a/blobs/uploads/blobs/uploads/").1, "a/blobs/uploads");
        let blob = format!("/v2/a/blobs/uploads/blobs/{ZEROS}");
        assert_eq!(parse(Method::GET, &blob), (Operation::GetBlob, "a/blobs/uploads".into(), blob_target()));
    }

    fn blob_target() -> Option<Target> {
        Some(Target::Blob(ZEROS.parse().unwrap()))
    }

    #[test]
    fn digests_may_come_escaped() {
        let path = format!("/v2/a/blobs/{}", ZEROS.replace(':', "%3A"));
        assert_eq!(parse(Method::HEAD, &path), (Operation::HeadBlob, "a".into(), blob_target()));
    }

    #[test]
    fn uploads_begin_with_and_without_the_slash() {
        for path in ["/v2/a/blobs/uploads", "/v2/a/blobs/uploads/"] {
            assert_eq!(parse(Method::POST, path).0, Operation::PostUpload);
        }
    }

    #[test]
    fn malformed_paths_are_refused() {
        let long = format!("/v2/{}/manifests/x", "a".repeat(256));
        let long_tag = format!("/v2/a/manifests/{}", "x".repeat(129));
        for (path, status) in [
            ("/v2/App/manifests/latest", StatusCode::BAD_REQUEST),
            ("/v2/a/../b/manifests/latest", StatusCode::BAD_REQUEST),
            ("/v2/a/%2e%2e%2fb/manifests/latest", StatusCode::BAD_REQUEST),
            ("/v2/a/%252e/manifests/latest", StatusCode::BAD_REQUEST),
            ("/v2/a%00/manifests/latest", StatusCode::BAD_REQUEST),
            ("/v2/a%0d%0a/manifests/latest", StatusCode::BAD_REQUEST),
            ("/v2/%ff/manifests/latest", StatusCode::BAD_REQUEST),
            (&long, StatusCode::BAD_REQUEST),
            (&long_tag, StatusCode::BAD_REQUEST),
            ("/v2/a/manifests/-x", StatusCode::BAD_REQUEST),
            ("/v2/a/manifests/sha256:../../x", StatusCode::BAD_REQUEST),
            ("/v2/a/blobs/sha256:baddigeststring", StatusCode::BAD_REQUEST),
            ("/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", StatusCode::BAD_REQUEST),
            ("/v2/manifests/latest", StatusCode::BAD_REQUEST),
            ("/v2/a/nothing", StatusCode::NOT_FOUND),
            ("/v2x", StatusCode::NOT_FOUND),
            ("/v2/a", StatusCode::NOT_FOUND),
        ] {
            assert_eq!(Route::parse(&Method::GET, path).unwrap_err().status(), status, "{path}");
        }
    }

    #[test]
    fn unknown_methods_are_refused_by_naming_the_known_ones() {
        for (path, known) in [
            ("/v2/", "GET, HEAD"),
            ("/v2/_catalog", "GET, HEAD"),
            ("/v2/a/tags/list", "GET, HEAD"),
            ("/v2/a/manifests/x", "GET, HEAD, PUT, DELETE"),
            ("/v2/a/blobs/uploads/", "POST"),
            ("/v2/a/blobs/uploads/u", "GET, HEAD, PATCH, PUT, DELETE"),
            (&format!("/v2/a/blobs/{ZEROS}"), "GET, HEAD, DELETE"),
        ] {
            let refused = Route::parse(&Method::OPTIONS, path).unwrap_err();
            assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(refused.header(&header::ALLOW).unwrap(), known, "{path}");
        }
    }
}
