//! A registry in memory with one administrator, at a fixed time.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use policies_identity::{BootstrapKey, Identity, IdentityConfig, RequestContext, serve_aws};
use registry_aws::{Credentials, sigv4};
use registry_blob::{ContentStore, MemoryStore, ReplicaId, Replicated};
use registry_core::{Registry, RegistryConfig};
use registry_metadata::Metadata;
use registry_runtime::{Clock, KeyProvider, LocalKeys, Sealer};
use registry_sql::Database;
use registry_types::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::access::Access;
use crate::http::ecr::Ecr;

/// 2026-11-01T12:00:00Z.
pub(crate) const NOW_MS: i64 = 1_793_534_400_000;

const ACCESS_KEY_ID: &str = "BRTHADMINISTRATOR000";
const SECRET: &str = "the administrator's secret, long enough";

pub(crate) struct Fixture {
    pub(crate) identity: Identity,
    ecr: Ecr,
    administrator: Credentials,
    _folder: TempDir,
}

/// An exception's name and message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) status: StatusCode,
    pub(crate) name: String,
    pub(crate) message: String,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(RegistryConfig::default()).await
    }

    pub(crate) async fn with(config: RegistryConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOW_MS);
        let keys = LocalKeys::open(&folder.path().join("keys")).unwrap();
        let sealer = Arc::new(Sealer::new(&keys.create("system", 1).unwrap(), 1));
        let database = Database::open_rerunning(&test_support::database_in(folder.path()), 9).await.unwrap();
        let identity_config = IdentityConfig {
            account_id: "000000000000".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            bootstrap: Some(BootstrapKey {
                access_key_id: ACCESS_KEY_ID.to_owned(),
                secret_access_key: SECRET.into(),
            }),
            credentials_file: None,
            audit_log: folder.path().join("audit.log"),
            clock_skew_ms: IdentityConfig::DEFAULT_CLOCK_SKEW_MS,
        };
        let opened =
            Identity::open(database.clone(), Arc::clone(&sealer), identity_config, clock.clone()).await;
        let (identity, _) = opened.unwrap();
        let replicas = Replicated::single(ReplicaId::new("memory"), Arc::new(MemoryStore::default()));
        let content = ContentStore::new(replicas, Arc::new(keys));
        let metadata = Metadata::open(database).await.unwrap();
        let registry = Registry::open(metadata, content, sealer, clock, config).await.unwrap();
        let access = Access::new("000000000000".parse().unwrap(), "us-east-1".parse().unwrap());
        let ecr = Ecr::new(registry, identity.clone(), Arc::new(access), None);
        let administrator = Credentials::new(ACCESS_KEY_ID, SECRET);
        Self { identity, ecr, administrator, _folder: folder }
    }

    /// A request of the administrator that must succeed.
    pub(crate) async fn call(&self, operation: &str, input: Value) -> Value {
        self.call_as(&self.administrator, operation, input).await.unwrap()
    }

    /// A request of the administrator that must not.
    pub(crate) async fn refused(&self, operation: &str, input: Value) -> Exception {
        self.call_as(&self.administrator, operation, input).await.unwrap_err()
    }

    pub(crate) async fn call_as(
        &self,
        credentials: &Credentials,
        operation: &str,
        input: Value,
    ) -> Result<Value, Exception> {
        let body = input.to_string();
        let request = Request::post("/")
            .header("host", "berth.example:5000")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("AmazonEC2ContainerRegistry_V20150921.{operation}"))
            .extension(context());
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        sigv4::sign(&mut parts, credentials, "us-east-1", "ecr", body.as_bytes(), NOW_MS);
        let response =
            serve_aws(&self.identity, &self.ecr, Request::from_parts(parts, Body::from(body))).await;
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        if status == StatusCode::OK {
            return Ok(body);
        }
        let text = |member: &str| body[member].as_str().unwrap().to_owned();
        Err(Exception { status, name: text("__type"), message: text("message") })
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.ecr.registry
    }

    pub(crate) fn administrator(&self) -> Credentials {
        self.administrator.clone()
    }

    /// A principal without any right on repositories.
    pub(crate) async fn host_agent(&self) -> Credentials {
        let key = self.identity.create_instance_principal("host-1").await.unwrap();
        Credentials::new(key.access_key_id, key.secret_access_key.expose())
    }

    pub(crate) async fn create(&self, name: &str) {
        self.call("CreateRepository", json!({ "repositoryName": name })).await;
    }

    /// Uploads a layer whole; gives its digest.
    pub(crate) async fn upload(&self, repository: &str, bytes: &[u8]) -> String {
        let started = self.call("InitiateLayerUpload", json!({ "repositoryName": repository })).await;
        let upload_id = &started["uploadId"];
        let part = json!({
            "repositoryName": repository,
            "uploadId": upload_id,
            "partFirstByte": 0,
            "partLastByte": bytes.len() - 1,
            "layerPartBlob": STANDARD.encode(bytes),
        });
        self.call("UploadLayerPart", part).await;
        let digest = digest(bytes);
        let complete =
            json!({ "repositoryName": repository, "uploadId": upload_id, "layerDigests": [digest] });
        self.call("CompleteLayerUpload", complete).await;
        digest
    }

    /// Puts an image of one layer, `content` making it unlike others; gives its digest.
    pub(crate) async fn put(&self, repository: &str, content: &str, tag: Option<&str>) -> String {
        let manifest = self.manifest(repository, content).await;
        let mut input = json!({ "repositoryName": repository, "imageManifest": manifest });
        if let Some(tag) = tag {
            input["imageTag"] = tag.into();
        }
        self.call("PutImage", input).await;
        digest(manifest.as_bytes())
    }

    /// A manifest whose contents are uploaded.
    pub(crate) async fn manifest(&self, repository: &str, content: &str) -> String {
        let config = self.upload(repository, b"{}").await;
        let layer = self.upload(repository, content.as_bytes()).await;
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer,
                "size": content.len(),
            }],
        })
        .to_string()
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::from_hash(registry_types::Algorithm::Sha256, &Sha256::digest(bytes)).to_string()
}

pub(crate) fn context() -> RequestContext {
    RequestContext {
        request_id: "00000000-0000-0000-0000-000000000000".to_owned(),
        host: Some("berth.example:5000".to_owned()),
        ..RequestContext::local(NOW_MS)
    }
}
