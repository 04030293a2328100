//! An identity on a temporary database, for the tests of this room.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Request};
use registry_aws::{Credentials, sigv4};
use registry_runtime::{Clock, Sealer, Secret};
use registry_sql::{Database, Tx};
use registry_types::Arn;

use crate::credentials::{AccessKey, TemporaryCredentials};
use crate::first_start::seal_key;
use crate::store::principals::{NewRole, NewUser};
use crate::store::{self, Owner};
use crate::{Bootstrap, Caller, Check, Identity, IdentityConfig, RequestContext, unique_id};

pub(crate) const ACCOUNT: &str = "000000000000";
/// 2026-11-23T04:00:00Z
pub(crate) const START_MS: i64 = 1_795_406_400_000;
pub(crate) const ALLOW_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

pub(crate) struct Fixture {
    pub(crate) identity: Identity,
    pub(crate) administrator: AccessKey,
    pub(crate) clock: Clock,
    pub(crate) database: Database,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn sealer() -> Arc<Sealer> {
    Arc::new(Sealer::new(&Secret::new(vec![7; 32]), 1))
}

pub(crate) fn config(folder: &std::path::Path) -> IdentityConfig {
    IdentityConfig {
        account_id: ACCOUNT.parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        bootstrap: None,
        credentials_file: Some(folder.join("credentials")),
        audit_log: folder.join("audit.log"),
        clock_skew_ms: IdentityConfig::DEFAULT_CLOCK_SKEW_MS,
    }
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open_rerunning(&test_support::database_in(folder.path()), 5).await.unwrap();
        let clock = Clock::manual(START_MS);
        let opened = Identity::open(database.clone(), sealer(), config(folder.path()), clock.clone()).await;
        let (identity, bootstrap) = opened.unwrap();
        let Bootstrap::Created { key, .. } = bootstrap else { panic!("the first start creates a key") };
        Self { identity, administrator: key, clock, database, folder }
    }

    /// Another server on the same database.
    pub(crate) async fn another_server(&self) -> Identity {
        let mut config = config(self.folder.path());
        config.audit_log = self.folder.path().join("audit-2.log");
        Identity::open(self.database.clone(), sealer(), config, self.clock.clone()).await.unwrap().0
    }

    pub(crate) fn ctx(&self) -> RequestContext {
        RequestContext {
            request_id: "request-1".to_owned(),
            user_agent: Some("test".to_owned()),
            ..RequestContext::local(self.clock.now_ms())
        }
    }

    /// Writes behind the back of `Identity`, as another server would, and loads what was written.
    pub(crate) async fn write(
        &self,
        mut change: impl FnMut(&Tx<'_>) -> Result<(), registry_sql::Error> + Send + 'static,
    ) {
        let written = self.database.write(move |tx| {
            change(tx)?;
            store::bump(tx)
        });
        written.await.unwrap();
        self.identity.refresh().await.unwrap();
    }

    /// A user with one inline policy and one access key.
    pub(crate) async fn user(&self, name: &str, policy: &str) -> AccessKey {
        let user = NewUser {
            uid: unique_id::user(),
            name: name.to_owned(),
            path: "/".to_owned(),
            boundary: None,
            tags: vec![("team".to_owned(), "blue".to_owned())],
            owner: Owner::Api,
            foreign: None,
        };
        let policy = policy.to_owned();
        let key = AccessKey {
            access_key_id: unique_id::access_key_id(),
            secret_access_key: unique_id::secret_access_key(),
        };
        let sealed = seal_key(&sealer(), &key, &user.uid, Owner::Api);
        self.write(move |tx| {
            store::principals::insert_user(tx, &user, START_MS)?;
            store::policies::put_inline(tx, &user.uid, "inline", &policy, Owner::Api)?;
            store::keys::insert(tx, &sealed, START_MS)
        })
        .await;
        key
    }

    /// Enables or disables an access key.
    pub(crate) async fn set_key_active(&self, key: &AccessKey, active: bool) {
        let id = key.access_key_id.clone();
        self.write(move |tx| store::keys::set_active(tx, &id, active).map(drop)).await;
    }

    pub(crate) async fn delete_key(&self, key: &AccessKey) {
        let id = key.access_key_id.clone();
        self.write(move |tx| store::keys::delete(tx, &id).map(drop)).await;
    }

    /// A role with one inline policy.
    pub(crate) async fn role(&self, name: &str, trust: &str, policy: &str) -> Arn {
        let role = NewRole {
            uid: unique_id::role(),
            name: name.to_owned(),
            path: "/".to_owned(),
            description: String::new(),
            trust_policy: trust.to_owned(),
            max_session_s: 2 * 3600,
            boundary: None,
            tags: Vec::new(),
            owner: Owner::Api,
            foreign: None,
        };
        let policy = policy.to_owned();
        self.write(move |tx| {
            store::principals::insert_role(tx, &role, START_MS)?;
            store::policies::put_inline(tx, &role.uid, "inline", &policy, Owner::Api)
        })
        .await;
        format!("arn:aws:iam::{ACCOUNT}:role/{name}").parse().unwrap()
    }

    /// The caller behind an access key, by a signed request.
    pub(crate) async fn caller(&self, key: &AccessKey) -> Caller {
        self.authenticate(&signing(key)).await.unwrap()
    }

    /// The caller behind a session.
    pub(crate) async fn session(&self, credentials: &TemporaryCredentials) -> Caller {
        self.authenticate(&session_signing(credentials)).await.unwrap()
    }

    pub(crate) async fn authenticate(
        &self,
        credentials: &Credentials,
    ) -> Result<Caller, crate::AuthenticationError> {
        let parts = self.signed(credentials, "sts", b"");
        self.identity.authenticate_aws(&parts, b"", &["sts"], &self.ctx()).await
    }

    /// The head of a POST that is signed now.
    pub(crate) fn signed(&self, credentials: &Credentials, service: &str, body: &[u8]) -> Parts {
        let mut parts = unsigned(&[]);
        sigv4::sign(&mut parts, credentials, "us-east-1", service, body, self.clock.now_ms());
        parts
    }

    /// Whether the caller may do `action` on `resource`.
    pub(crate) fn allowed(&self, caller: &Caller, action: &'static str, resource: &str) -> bool {
        let check = Check::on(action, resource.parse().unwrap());
        self.identity.authorize(&self.ctx(), caller, "Test", &check).is_ok()
    }

    /// Everything in the audit log so far.
    pub(crate) async fn audit_lines(&self) -> Vec<serde_json::Value> {
        self.identity.flush_audit().await;
        let text = std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) fn unsigned(headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::post("/").header("host", "127.0.0.1:5000");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap().into_parts().0
}

pub(crate) fn signing(key: &AccessKey) -> Credentials {
    Credentials::new(&key.access_key_id, key.secret_access_key.expose())
}

pub(crate) fn session_signing(credentials: &TemporaryCredentials) -> Credentials {
    Credentials {
        access_key_id: credentials.access_key_id.clone(),
        secret_access_key: credentials.secret_access_key.expose().to_owned(),
        session_token: Some(credentials.session_token.expose().to_owned()),
    }
}

pub(crate) fn basic(user: &str, password: &str) -> HeaderMap {
    authorization(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

pub(crate) fn bearer(token: &str) -> HeaderMap {
    authorization(&format!("Bearer {token}"))
}

pub(crate) fn authorization(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, value.parse().unwrap());
    headers
}

pub(crate) fn repository(name: &str) -> String {
    format!("arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{name}")
}

/// An identity policy with one statement.
pub(crate) fn policy(effect: &str, action: &str, resource: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":"{action}","Resource":"{resource}"}}]}}"#
    )
}

/// A trust policy for one principal, such as `"AWS":"arn:…"`, with conditions (`{}` for none).
pub(crate) fn trust(principal: &str, conditions: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{{principal}}},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"],"Condition":{conditions}}}]}}"#
    )
}
