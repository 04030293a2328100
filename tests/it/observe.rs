//! What operators see: numbers that a scraper parses, a line for each request without a secret in it, one status.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use test_support::{Http, Server, eventually, run, sha256, try_run};

use crate::policy_files::{Files, SECRET};

const READER: &str = "AKIAREADER000000";
const GUEST: &str = "AKIAGUEST0000000";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The samples of a scrape by name and labels as they are written. Panics on a line that is none of the format.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut types = BTreeMap::new();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some((name, kind)) = comment.strip_prefix("TYPE ").and_then(|rest| rest.split_once(' ')) {
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                types.insert(name.to_owned(), kind.to_owned());
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let name = series.split('{').next().unwrap();
        let family = types.keys().find(|family| {
            let rest = name.strip_prefix(family.as_str());
            rest.is_some_and(|rest| ["", "_total", "_bucket", "_sum", "_count"].contains(&rest))
        });
        assert!(family.is_some(), "{line} has no TYPE");
        assert!(name.starts_with("berth_"), "{line}");
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(samples.insert(series.to_owned(), value).is_none(), "{line} is there twice");
    }
    samples
}

fn scrape(http: &Http) -> BTreeMap<String, f64> {
    let answer = http.get("/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    parse(std::str::from_utf8(&answer.body).unwrap())
}

/// A free port, to be named in a configuration.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn push_image(http: &Http, repository: &str) {
    let config = http.push_blob(repository, b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": "a/b", "digest": config, "size": 2},
    });
    let manifest = manifest.to_string();
    let path = format!("/v2/{repository}/manifests/1");
    assert_eq!(http.put(&path, &[("content-type", MANIFEST)], manifest.as_bytes()).status, 201);
}

#[test]
fn numbers_are_for_those_who_may_read_them_and_name_no_repository() {
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    let log_in = json!({"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"});
    let read = json!({"Effect": "Allow", "Action": "berth:ReadMetrics", "Resource": "*"});
    files.user("reader", READER, &json!([log_in.clone(), read]));
    files.user("guest", GUEST, &json!([log_in]));
    let port = free_port();
    let server = builder.config(&format!("metrics_listen = \"127.0.0.1:{port}\"")).start();
    let nobody = server.anonymous();
    let reader = nobody.basic(READER, SECRET);
    eventually("the files are in effect", || (reader.get("/v2/").status == 200).then_some(()));
    assert_eq!(nobody.get("/metrics").status, 401);
    assert_eq!(nobody.basic(READER, "wrong").get("/metrics").status, 401);
    assert_eq!(nobody.basic(GUEST, SECRET).get("/metrics").status, 403);
    let token = server.http().get("/token?scope=repository:canary/app:pull").json()["token"].clone();
    assert_eq!(nobody.bearer(token.as_str().unwrap()).get("/metrics").status, 401);

    let http = server.http();
    push_image(&http, "canary/app");
    for _ in 0..3 {
        assert_eq!(http.get("/v2/canary/app/manifests/1").status, 200);
    }
    assert_eq!(http.get("/v2/canary/app/manifests/absent").status, 404);
    assert_eq!(http.get("/nowhere/canary").status, 404);
    let blob = format!("/v2/canary/app/blobs/sha256:{}", sha256(b"{}"));
    assert_eq!(http.get(&blob).body, b"{}");
    // A passage ends with its answer's last byte, a moment after the client has it.
    let samples = eventually("everything is counted", || {
        let samples = scrape(&reader);
        let blobs = samples.get("berth_http_sent_bytes_total{operation=\"oci:GetBlob\"}");
        blobs.is_some_and(|bytes| *bytes == 2.0).then_some(samples)
    });
    let is = |series: &str, expected: f64| {
        assert_eq!(samples.get(series).copied(), Some(expected), "{series}: {samples:#?}");
    };
    is("berth_http_requests_total{operation=\"oci:GetManifest\",code=\"200\"}", 3.0);
    is("berth_http_requests_total{operation=\"oci:GetManifest\",code=\"404\"}", 1.0);
    is("berth_http_request_duration_seconds_count{operation=\"oci:GetManifest\"}", 4.0);
    is("berth_http_request_duration_seconds_bucket{le=\"+Inf\",operation=\"oci:GetManifest\"}", 4.0);
    is("berth_http_requests_total{operation=\"unknown:Unknown\",code=\"404\"}", 1.0);
    is("berth_http_requests_total{operation=\"berth:ReadMetrics\",code=\"403\"}", 1.0);
    is("berth_http_received_bytes_total{operation=\"oci:PutUpload\"}", 2.0);
    is("berth_manifest_cache_reads_total{result=\"hit\"}", 3.0);
    is("berth_ready", 1.0);
    is("berth_repositories", 1.0);
    is("berth_images", 1.0);
    is("berth_uploads_open", 0.0);
    is("berth_replica_up{replica=\"replica0\"}", 1.0);
    is("berth_replica_repairs_pending{replica=\"replica0\"}", 0.0);
    is("berth_replica_removals_pending{replica=\"replica0\"}", 0.0);
    is("berth_scheduler_leads", 1.0);
    is("berth_clusters", 1.0);
    is("berth_tasks{status=\"running\"}", 0.0);
    assert!(
        !samples.keys().any(|series| series.contains("canary") || series.contains("AKIA")),
        "{samples:#?}"
    );

    // The listener of its own serves everybody, and nothing else.
    let open = Http::new(&format!("http://127.0.0.1:{port}"));
    assert!(scrape(&open).len() >= samples.len());
    assert_eq!(open.get("/v2/").status, 404);
    assert_eq!(open.post("/", &[], b"{}").status, 404);
}

#[test]
fn every_request_has_one_line_and_no_line_holds_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let mut server = Server::builder().config(&format!("access_log = {log:?}")).start();
    let http = server.http();
    push_image(&http, "app");
    let bearer = http.get("/token?scope=repository:app:pull&account=CANARY-account").json()["token"].clone();
    let bearer = bearer.as_str().unwrap();
    assert_eq!(server.anonymous().bearer(bearer).get("/v2/app/manifests/1?x=CANARY-query").status, 200);
    assert_eq!(server.anonymous().basic("AKIACANARY000000", "CANARY-password").get("/v2/").status, 401);
    let login = run(server.aws_command().args(["ecr", "get-login-password"]));
    assert_eq!(server.anonymous().basic("AWS", login.trim()).get("/v2/").status, 200);
    let found = http.head("/v2/app/manifests/1");
    let begun = http.post("/v2/app/blobs/uploads/", &[("user-agent", "CANARY-agent")], b"");
    let location = begun.header("location").unwrap();
    assert_eq!(http.patch(location, &[], b"CANARY-content").status, 202);
    server.stop();

    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |operation: &str| lines.iter().filter(|line| line["operation"] == operation).collect::<Vec<_>>();
    let get = of("oci:GetManifest");
    assert_eq!(get.len(), 1, "{text}");
    let (code, sent) = (&get[0]["code"], &get[0]["sentBytes"]);
    assert_eq!(
        (code.as_u64(), sent.to_string()),
        (Some(200), found.header("content-length").unwrap().to_owned())
    );
    assert!(get[0]["principal"].as_str().unwrap().starts_with("arn:aws:iam::000000000000:user/"), "{text}");
    assert!(get[0]["durationMs"].is_f64() && get[0]["sourceIp"] == "127.0.0.1", "{text}");
    let patch = of("oci:PatchUpload");
    assert_eq!((patch.len(), &patch[0]["receivedBytes"]), (1, &json!(14)), "{text}");
    assert_eq!(of("ecr:GetAuthorizationToken")[0]["code"], 200, "{text}");
    assert_eq!(of("oci:Token").len(), 1, "{text}");
    let pings = of("oci:Ping");
    assert!(pings.iter().any(|line| line["code"] == 401 && line["principal"].is_null()), "{text}");
    // What decided about it stands in the audit log under the same id.
    let audit = std::fs::read_to_string(server.data().join("audit.log")).unwrap();
    assert!(audit.contains(get[0]["requestId"].as_str().unwrap()), "{audit}");
    for secret in ["CANARY", server.secret(), bearer, login.trim(), "uploads/", "Basic", "Bearer"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    let mut ids: Vec<&str> = lines.iter().map(|line| line["requestId"].as_str().unwrap()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "{text}");
}

#[test]
fn the_status_tells_what_is_stored_and_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let roots: Vec<_> = (0..3).map(|number| folder.path().join(format!("disk{number}"))).collect();
    let server = Server::builder().config(&format!("replicas = {roots:?}")).start();
    push_image(&server.http(), "app");
    let status = || -> Value {
        serde_json::from_str(&run(&mut server.berth(["status", "--output", "json"]))).unwrap()
    };
    let seen = status();
    assert_eq!(
        (&seen["ready"], &seen["repositories"], &seen["images"]),
        (&json!(true), &json!(1), &json!(1))
    );
    assert_eq!((&seen["store"]["writeQuorum"], &seen["scheduler"]["clusters"]), (&json!(2), &json!(1)));
    assert_eq!(seen["version"], env!("CARGO_PKG_VERSION"));
    std::fs::rename(&roots[1], folder.path().join("gone")).unwrap();
    let text = eventually("the lost disk is told of", || {
        let text = run(&mut server.berth(["status"]));
        text.contains("2 of 3 usable").then_some(text)
    });
    assert!(text.starts_with("berth ") && text.contains("problem    replica1: "), "{text}");
    eventually("so is whoever asks whether the server is ready", || {
        let text = String::from_utf8(server.anonymous().get("/readyz").body).unwrap();
        text.contains("cannot be used: replica1 (").then_some(())
    });
    let samples = scrape(&server.http());
    assert_eq!(samples["berth_replica_up{replica=\"replica1\"}"], 0.0, "{samples:#?}");
    let refused = try_run(
        server
            .berth(["status"])
            .env("AWS_ACCESS_KEY_ID", "AKIANOBODY000000")
            .env("AWS_SECRET_ACCESS_KEY", "x"),
    );
    assert!(refused.unwrap_err().contains("GetStatus failed"));
}
