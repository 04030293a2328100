//! A plain HTTP client for what no other client would send.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// An answer, its body read whole. Header names are lower case; repeated ones are joined by a comma.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The code of the first error of an OCI error body.
    pub fn oci_code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A client bound to one server, with one `Authorization` header or none.
#[derive(Clone)]
pub struct Http {
    agent: ureq::Agent,
    base: String,
    authorization: Option<String>,
}

impl Http {
    pub fn new(base: &str) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build();
        Self { agent: config.into(), base: base.to_owned(), authorization: None }
    }

    /// The same client with `Authorization: Basic`.
    pub fn basic(&self, user: &str, password: &str) -> Self {
        Self {
            authorization: Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))),
            ..self.clone()
        }
    }

    /// The value of the `Authorization` header this client sends.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    pub fn bearer(&self, token: &str) -> Self {
        Self { authorization: Some(format!("Bearer {token}")), ..self.clone() }
    }

    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"")
    }

    pub fn head(&self, path: &str) -> Response {
        self.send("HEAD", path, &[], b"")
    }

    pub fn delete(&self, path: &str) -> Response {
        self.send("DELETE", path, &[], b"")
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.send("POST", path, headers, body)
    }

    pub fn put(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.send("PUT", path, headers, body)
    }

    pub fn patch(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.send("PATCH", path, headers, body)
    }

    /// Sends one request; `path` may be a whole URL, as Locations may be. Panics when no whole answer comes.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.try_send(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// GET; `None` when the answer breaks off.
    pub fn try_get(&self, path: &str) -> Option<Response> {
        self.try_send("GET", path, &[], b"").ok()
    }

    /// The same.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, ureq::Error> {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let result = if matches!(method, "GET" | "HEAD" | "DELETE") && body.is_empty() {
            self.agent.run(request.body(()).unwrap())
        } else {
            self.agent.run(request.body(body).unwrap())
        };
        let mut response = result?;
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in response.headers() {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers
                .entry(name.as_str().to_owned())
                .and_modify(|all| *all = format!("{all},{value}"))
                .or_insert(value);
        }
        let body = response.body_mut().with_config().limit(1 << 31).read_to_vec()?;
        Ok(Response { status: response.status().as_u16(), headers, body })
    }

    /// Pushes one blob by POST and PUT; panics unless it is accepted.
    pub fn push_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = format!("sha256:{}", crate::image::sha256(bytes));
        let started = self.post(&format!("/v2/{repository}/blobs/uploads/"), &[], b"");
        assert_eq!(started.status, 202, "{started:?}");
        let location = started.header("location").unwrap();
        let separator = if location.contains('?') { '&' } else { '?' };
        let target = format!("{location}{separator}digest={digest}");
        let finished = self.put(&target, &[("content-type", "application/octet-stream")], bytes);
        assert_eq!(finished.status, 201, "{finished:?}");
        digest
    }
}
