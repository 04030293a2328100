//! Requests of the AWS protocols, signed and sent as they are: what the AWS CLI would not send, and fast.

use std::time::{SystemTime, UNIX_EPOCH};

use registry_aws::{Credentials, sigv4};
use test_support::{Http, Response, Server};

/// What the operations of a service are called in `X-Amz-Target`, and what they are signed for.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) target: &'static str,
}

pub(crate) const ECR: Service = Service { name: "ecr", target: "AmazonEC2ContainerRegistry_V20150921" };
pub(crate) const ECS: Service = Service { name: "ecs", target: "AmazonEC2ContainerServiceV20141113" };
pub(crate) const BERTH: Service = Service { name: "berth", target: "Berth_20261101" };

/// A client that signs what it sends, or sends it unsigned.
pub(crate) struct Signer {
    http: Http,
    host: String,
    credentials: Option<Credentials>,
}

impl Signer {
    pub(crate) fn new(endpoint: &str, credentials: Option<(&str, &str)>) -> Self {
        let host = endpoint.trim_start_matches("http://").to_owned();
        let credentials = credentials.map(|(key, secret)| Credentials::new(key, secret));
        Self { http: Http::new(endpoint), host, credentials }
    }

    /// A client with the credentials of a session.
    pub(crate) fn session(endpoint: &str, (key, secret): (&str, &str), token: &str) -> Self {
        let mut credentials = Credentials::new(key, secret);
        credentials.session_token = Some(token.to_owned());
        Self { credentials: Some(credentials), ..Self::new(endpoint, None) }
    }

    pub(crate) fn administrator(server: &Server) -> Self {
        Self::new(server.endpoint(), Some((server.access_key_id(), server.secret())))
    }

    /// An operation of the JSON protocol.
    pub(crate) fn call(&self, service: &Service, operation: &str, body: &str) -> Response {
        let target = format!("{}.{operation}", service.target);
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        self.send(service.name, &headers, body.as_bytes())
    }

    /// An operation of the Query protocol; `form` begins with the operation's name.
    pub(crate) fn query(&self, service: &str, version: &str, form: &str) -> Response {
        let body = format!("Version={version}&Action={form}");
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        self.send(service, &headers, body.as_bytes())
    }

    /// The same; `None` when the answer breaks off.
    pub(crate) fn try_call(&self, service: &Service, operation: &str, body: &str) -> Option<Response> {
        let target = format!("{}.{operation}", service.target);
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let headers = self.headers(service.name, &headers, body.as_bytes());
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.http.try_send("POST", "/", &headers, body.as_bytes()).ok()
    }

    fn send(&self, service: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let headers = self.headers(service, headers, body);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.http.send("POST", "/", &headers, body)
    }

    /// The headers of a POST to `/`, the signature's among them.
    pub(crate) fn headers(
        &self,
        service: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<(String, String)> {
        let mut request = axum::http::Request::post("/").header("host", &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        if let Some(credentials) = &self.credentials {
            let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
            sigv4::sign(&mut parts, credentials, "us-east-1", service, body, i64::try_from(now_ms).unwrap());
        }
        let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = parts.headers.iter().filter(|(name, _)| name.as_str() != "host");
        headers.map(|(name, value)| (name.to_string(), text(value))).collect()
    }
}
