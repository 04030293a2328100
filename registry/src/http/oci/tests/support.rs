//! A registry in one process, and a client for it.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::response::Response;
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, Request, StatusCode, header};
use policies_identity::{BootstrapKey, Caller, Identity, IdentityConfig, RequestContext, Scope};
use registry_aws::{Credentials, sigv4};
use registry_blob::{BlobStore, ContentStore, FileId, MemoryStore, ReplicaId, Replicated};
use registry_core::{Registry, RegistryConfig};
use registry_metadata::Metadata;
use registry_runtime::{Clock, KeyProvider, LocalKeys, Sealer, SecretString};
use registry_sql::Database;
use registry_types::{Algorithm, Digest};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::Access;
use crate::http::Oci;

pub(super) const KEY: &str = "AKIATESTTESTTESTTEST";
const SECRET: &str = "0123456789abcdef0123456789abcdef0123";

pub(super) struct World {
    router: Router,
    pub(super) registry: Registry,
    pub(super) identity: Identity,
    pub(super) store: Arc<MemoryStore>,
    metadata: Metadata,
    keys: Arc<LocalKeys>,
    sealer: Arc<Sealer>,
    folder: Arc<TempDir>,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(RegistryConfig::default()).await
    }

    pub(super) async fn with(config: RegistryConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Runs closures twice at random: they must be free of side effects.
        let database = Database::open_rerunning(&test_support::database_in(folder.path()), 7).await.unwrap();
        let keys = Arc::new(LocalKeys::open(&folder.path().join("keys")).unwrap());
        let sealer = Arc::new(Sealer::new(&keys.create("system", 1).unwrap(), 1));
        let identity_config = IdentityConfig {
            account_id: "000000000000".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            bootstrap: Some(BootstrapKey {
                access_key_id: KEY.to_owned(),
                secret_access_key: SecretString::new(SECRET.to_owned()),
            }),
            credentials_file: None,
            audit_log: folder.path().join("audit.log"),
            clock_skew_ms: IdentityConfig::DEFAULT_CLOCK_SKEW_MS,
        };
        let (identity, _) =
            Identity::open(database.clone(), Arc::clone(&sealer), identity_config, Clock::system())
                .await
                .unwrap();
        let metadata = Metadata::open(database).await.unwrap();
        let store = Arc::new(MemoryStore::default());
        Self::over(metadata, store, keys, sealer, identity, Arc::new(folder), config).await
    }

    async fn over(
        metadata: Metadata,
        store: Arc<MemoryStore>,
        keys: Arc<LocalKeys>,
        sealer: Arc<Sealer>,
        identity: Identity,
        folder: Arc<TempDir>,
        config: RegistryConfig,
    ) -> Self {
        let clock = Clock::system();
        let replicas = Replicated::single(ReplicaId::new("memory"), Arc::clone(&store) as _);
        let content = ContentStore::new(replicas, Arc::clone(&keys) as _);
        let registry = Registry::open(metadata.clone(), content, Arc::clone(&sealer), clock.clone(), config)
            .await
            .unwrap();
        let access = Access::new(identity.account_id().clone(), identity.region().clone());
        let oci = Oci::new(registry.clone(), identity.clone(), Arc::new(access), None);
        Self {
            router: oci.router().layer(Extension(context())),
            registry,
            identity,
            store,
            metadata,
            keys,
            sealer,
            folder,
        }
    }

    /// The same registry after a restart, with nothing in memory.
    pub(super) async fn reopened(&self) -> Self {
        Self::over(
            self.metadata.clone(),
            Arc::clone(&self.store),
            Arc::clone(&self.keys),
            Arc::clone(&self.sealer),
            self.identity.clone(),
            Arc::clone(&self.folder),
            self.registry.config().clone(),
        )
        .await
    }

    /// Every object that the store holds.
    pub(super) async fn objects(&self) -> Vec<FileId> {
        let entries = self.store.list(None, 1000).await.unwrap();
        entries.into_iter().map(|entry| entry.file_id).collect()
    }

    /// An answer whose body is still to be read.
    pub(super) async fn open(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// A request with nothing but what is given.
    pub(super) async fn raw(&self, request: Request<Body>) -> Answer {
        let response = self.open(request).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// A request of the administrator.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "registry.test:5000")
            .header(header::AUTHORIZATION, basic(KEY, SECRET));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.raw(request.body(body).unwrap()).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    pub(super) async fn head(&self, path: &str) -> Answer {
        self.send(Method::HEAD, path, &[], Body::empty()).await
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Body::empty()).await
    }

    pub(super) async fn post(&self, path: &str) -> Answer {
        self.send(Method::POST, path, &[], Body::empty()).await
    }

    /// Pushes a blob with POST and PUT.
    pub(super) async fn push_blob(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = sha256(content);
        let location = self.post(&format!("/v2/{repository}/blobs/uploads/")).await.location();
        let put = self.put(&format!("{location}?digest={digest}"), content).await;
        assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
        digest
    }

    pub(super) async fn put(&self, path: &str, content: &[u8]) -> Answer {
        self.send(Method::PUT, path, &[], Body::from(content.to_vec())).await
    }

    pub(super) async fn put_manifest(&self, repository: &str, reference: &str, manifest: &Value) -> Answer {
        let media_type = manifest["mediaType"].as_str().unwrap_or(OCI_MANIFEST).to_owned();
        self.put_bytes(repository, reference, &media_type, manifest.to_string().as_bytes()).await
    }

    pub(super) async fn put_bytes(
        &self,
        repository: &str,
        reference: &str,
        content_type: &str,
        bytes: &[u8],
    ) -> Answer {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let headers = [("content-type", content_type)];
        self.send(Method::PUT, &path, &headers, Body::from(bytes.to_vec())).await
    }

    /// Pushes an image of one layer under a tag; its digest.
    pub(super) async fn push_image(&self, repository: &str, tag: &str, layer: &[u8]) -> Digest {
        let manifest = self.image(repository, layer).await;
        let put = self.put_manifest(repository, tag, &manifest).await;
        assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());
        put.header("docker-content-digest").parse().unwrap()
    }

    /// A manifest whose contents are pushed.
    pub(super) async fn image(&self, repository: &str, layer: &[u8]) -> Value {
        let config = self.push_blob(repository, b"{}").await;
        let digest = self.push_blob(repository, layer).await;
        image_of(
            &descriptor("application/vnd.oci.image.config.v1+json", &config, 2),
            &[descriptor("application/vnd.oci.image.layer.v1.tar", &digest, layer.len())],
        )
    }

    pub(super) async fn set_policy(&self, repository: &str, statements: Value) {
        let found = self.registry.repository(&repository.parse().unwrap()).await.unwrap().unwrap();
        let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        self.registry.set_repository_policy(&found.uid, Some(policy)).await.unwrap();
    }

    /// The token of a principal that no identity policy lets near the registry.
    pub(super) async fn stranger(&self) -> String {
        let key = self.identity.create_instance_principal("stranger").await.unwrap();
        let credentials = Credentials::new(key.access_key_id, key.secret_access_key.expose());
        let request = Request::post("http://registry.test:5000/").body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        sigv4::sign(&mut parts, &credentials, "us-east-1", "ecr", b"", context().now_ms);
        let caller = self.identity.authenticate_aws(&parts, b"", &["ecr"], &context()).await.unwrap();
        let scopes = ["app", "other", "mine", "secret"].map(|name| format!("repository:{name}:*"));
        self.mint(&caller, &format!("{} registry:catalog:* registry:blobs:pull", scopes.join(" "))).await
    }

    /// A bearer token of the administrator with this scope.
    pub(super) async fn bearer(&self, scope: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, basic(KEY, SECRET).parse().unwrap());
        let caller = self.identity.authenticate_docker(&headers, &context()).unwrap();
        self.mint(&caller, scope).await
    }

    pub(super) async fn mint(&self, caller: &Caller, scope: &str) -> String {
        let token = self.identity.mint_bearer(caller, &Scope::parse(scope).unwrap()).unwrap();
        format!("Bearer {}", token.token.expose())
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn location(&self) -> String {
        self.header("location").to_owned()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and the first code of an error.
    pub(super) fn error(&self) -> (u16, String) {
        let code = self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), code)
    }
}

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(super) fn context() -> RequestContext {
    RequestContext {
        host: Some("registry.test:5000".to_owned()),
        ..RequestContext::local(Clock::system().now_ms())
    }
}

pub(super) fn basic(key: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{key}:{secret}")))
}

pub(super) fn sha256(content: &[u8]) -> Digest {
    Digest::from_hash(Algorithm::Sha256, &Sha256::digest(content))
}

pub(super) fn sha512(content: &[u8]) -> Digest {
    Digest::from_hash(Algorithm::Sha512, &Sha512::digest(content))
}

pub(super) fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

pub(super) fn image_of(config: &Value, layers: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers })
}

pub(super) fn index_of(manifests: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests })
}
