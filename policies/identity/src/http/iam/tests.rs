//! IAM as its clients see it: forms in, XML out, by every operation's row.

mod hostile;
mod lifecycle;
mod rows;

use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use registry_aws::{Credentials, sigv4};

use super::Iam;
use crate::serve_aws;
use crate::testing::{Fixture, signing};

/// A client of IAM.
struct Client<'a> {
    fixture: &'a Fixture,
    credentials: Option<Credentials>,
}

impl<'a> Client<'a> {
    fn administrator(fixture: &'a Fixture) -> Self {
        Self { fixture, credentials: Some(signing(&fixture.administrator)) }
    }

    async fn send(&self, form: &str) -> (StatusCode, String) {
        let form = format!("Version=2010-05-08&Action={form}");
        let mut parts =
            crate::testing::unsigned(&[("content-type", "application/x-www-form-urlencoded; charset=utf-8")]);
        if let Some(credentials) = &self.credentials {
            let now_ms = self.fixture.clock.now_ms();
            sigv4::sign(&mut parts, credentials, "us-east-1", "iam", form.as_bytes(), now_ms);
        }
        parts.extensions.insert(self.fixture.ctx());
        let request = Request::from_parts(parts, Body::from(form));
        let identity = &self.fixture.identity;
        let response = identity.recorded(serve_aws(identity, &Iam::new(identity.clone()), request)).await;
        let status = response.status();
        let body = to_bytes(response.into_body(), 4 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The answer to what must be done.
    async fn ask(&self, form: &str) -> String {
        let (status, body) = self.send(form).await;
        assert_eq!(status, StatusCode::OK, "{form}: {body}");
        body
    }

    /// State and code of a refusal.
    async fn refused(&self, form: &str) -> (u16, String) {
        let (status, body) = self.send(form).await;
        assert_ne!(status, StatusCode::OK, "{form}: {body}");
        (status.as_u16(), between(&body, "Code").to_owned())
    }
}

fn between<'a>(text: &'a str, name: &str) -> &'a str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let found = text.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    found.map(|(value, _)| value).unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn encoded(text: &str) -> String {
    super::document::encoded(text)
}

const ACCOUNT_ARN: &str = "arn:aws:iam::000000000000";
