//! What one request pays at the gate: `cargo bench -p policies-identity`.
//!
//! CPU time of one thread, the audit log's thread apart, for each way to authenticate and for one decision
//! with its audit line. Reports only; nothing fails here.
#![allow(clippy::print_stdout, reason = "a benchmark reports on the terminal")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request};
use policies_identity::{Bootstrap, Caller, Check, Identity, IdentityConfig, RequestContext, Scope};
use registry_aws::{Credentials, sigv4};
use registry_runtime::{Clock, Sealer, Secret};
use registry_sql::Database;

const ROUNDS: u32 = 20_000;
/// Fewer than the audit log's queue holds, so that nothing is refused for want of room.
const BURST: u32 = 5_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (identity, bootstrap) = runtime.block_on(async {
        let database = Database::open_sqlite(&folder.path().join("berth.db")).await.expect("a database");
        let config = IdentityConfig {
            account_id: "000000000000".parse().expect("an account id"),
            region: "us-east-1".parse().expect("a region"),
            bootstrap: None,
            credentials_file: None,
            audit_log: folder.path().join("audit.log"),
            clock_skew_ms: IdentityConfig::DEFAULT_CLOCK_SKEW_MS,
        };
        let sealer = Arc::new(Sealer::new(&Secret::new(vec![7; 32]), 1));
        Identity::open(database, sealer, config, Clock::system()).await.expect("identity opens")
    });
    let Bootstrap::Created { key, .. } = bootstrap else { unreachable!("the database is new") };
    let ctx = RequestContext {
        user_agent: Some("docker/27.3.1 go/go1.22.7 kernel/6.1.0 os/linux arch/amd64".to_owned()),
        host: Some("127.0.0.1:5000".to_owned()),
        ..RequestContext::local(Clock::system().now_ms())
    };
    let basic = header(format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", key.access_key_id, key.secret_access_key.expose()))
    ));
    let caller = identity.authenticate_docker(&basic, &ctx).expect("the administrator");
    let ecr = identity.mint_ecr_token(&caller).expect("an ECR token");
    let ecr = header(format!("Basic {}", STANDARD.encode(format!("AWS:{}", ecr.token.expose()))));
    let scope = Scope::parse("repository:app:pull").expect("a scope");
    let bearer = identity.mint_bearer(&caller, &scope).expect("a bearer token");
    let bearer = header(format!("Bearer {}", bearer.token.expose()));
    let mut parts = Request::post("/")
        .header("host", "127.0.0.1:5000")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "AmazonEC2ContainerServiceV20141113.ListTasks")
        .body(())
        .expect("a request")
        .into_parts()
        .0;
    let credentials = Credentials::new(&key.access_key_id, key.secret_access_key.expose());
    sigv4::sign(&mut parts, &credentials, "us-east-1", "ecs", b"{}", ctx.now_ms);

    let check = || {
        let arn = "arn:aws:ecr:us-east-1:000000000000:repository/app".parse().expect("an ARN");
        Check::on("ecr:BatchGetImage", arn)
    };
    let docker = |headers: &HeaderMap| identity.authenticate_docker(headers, &ctx).expect("good credentials");
    report("authenticate: bearer", || drop(docker(&bearer)));
    report("authenticate: ECR token", || drop(docker(&ecr)));
    report("authenticate: signature", || {
        let signed = identity.authenticate_aws(&parts, b"{}", &["ecs"], &ctx);
        drop(runtime.block_on(signed).expect("a good signature"));
    });
    report("decide, no audit line", || {
        let _ = identity.probe(&ctx, &caller, &check()).expect("allowed");
    });
    let decide = |caller: &Caller| {
        let _ = identity.authorize(&ctx, caller, "BatchGetImage", &check()).expect("allowed");
    };
    in_bursts(&runtime, &identity, "decide, with audit line", || decide(&caller));
    in_bursts(&runtime, &identity, "bearer and decision, as a manifest GET", || decide(&docker(&bearer)));
    in_bursts(&runtime, &identity, "access key and both its decisions", || decide(&docker(&basic)));
    runtime.block_on(identity.close());
}

fn header(value: String) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, value.parse().expect("a header"));
    headers
}

fn report(what: &str, mut once: impl FnMut()) {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        once();
    }
    line(what, start.elapsed());
}

/// With pauses in which the audit log catches up; they are not counted.
fn in_bursts(runtime: &tokio::runtime::Runtime, identity: &Identity, what: &str, mut once: impl FnMut()) {
    let mut spent = Duration::ZERO;
    for _ in 0..ROUNDS / BURST {
        let start = Instant::now();
        for _ in 0..BURST {
            once();
        }
        spent += start.elapsed();
        runtime.block_on(identity.flush_audit());
    }
    line(what, spent);
}

fn line(what: &str, spent: Duration) {
    println!("{what:<42} {:>8.2} µs", spent.as_secs_f64() * 1e6 / f64::from(ROUNDS));
}
