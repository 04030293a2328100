//! Repositories that are filled from another registry: a second server of this kind, and one that lies.

mod api;
mod artifacts;
mod hostile;
mod interrupted;
mod upstream;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use test_support::{
    Engine, Http, Layer, Response, Server, aws, eventually, go_tool, run, run_with_input, sha256,
    static_image,
};

use crate::at_rest::lies_nowhere;
use crate::policy_files::{Files, SECRET};
use crate::signed::{ECR, Signer};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A server whose repositories below `hub` come from `upstream`, with further lines of configuration.
fn cache_of(upstream: &str, config: &str) -> Server {
    let authority = upstream.trim_start_matches("http://");
    let config = format!("pull_through_private_hosts = [{authority:?}]\n{config}");
    let server = Server::builder().config(&config).start();
    create_rule(&server, "hub", upstream).unwrap();
    server
}

fn create_rule(server: &Server, prefix: &str, upstream: &str) -> Result<Value, String> {
    // The CLI takes an argument that looks like a URL for the place of one.
    let input = json!({"ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": upstream}).to_string();
    aws(server, ["ecr", "create-pull-through-cache-rule", "--cli-input-json", &input])
}

/// Lets `cache` log in at `upstream` as its administrator.
fn log_in(cache: &Server, upstream: &Server) {
    let login = ["upstream", "login", "hub", "--username", upstream.access_key_id()];
    run_with_input(&mut cache.berth(login), upstream.secret().as_bytes());
}

/// The digest of the manifest that was pushed.
fn push(http: &Http, repository: &str, tag: &str, text: &str) -> String {
    let (config, layer, manifest) =
        static_image("amd64", &[Layer { path: "marker", bytes: text.as_bytes() }]);
    http.push_blob(repository, &config);
    http.push_blob(repository, &layer);
    put(http, repository, tag, MANIFEST, &manifest)
}

fn put(http: &Http, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) -> String {
    let path = format!("/v2/{repository}/manifests/{tag}");
    let answer = http.put(&path, &[("content-type", media_type)], manifest);
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.header("docker-content-digest").unwrap().to_owned()
}

fn manifest(http: &Http, repository: &str, reference: &str) -> Response {
    http.get(&format!("/v2/{repository}/manifests/{reference}"))
}

/// The digests of the blobs that a manifest names.
fn blobs(manifest: &Response) -> Vec<String> {
    let manifest = manifest.json();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let all = layers.chain([&manifest["config"]]).map(|one| one["digest"].as_str().unwrap().to_owned());
    all.collect()
}

/// How many requests of an operation a server has answered with 200.
fn answered(server: &Server, operation: &str) -> u64 {
    let text = String::from_utf8(server.http().get("/metrics").body).unwrap();
    let series = format!("berth_http_requests_total{{operation=\"{operation}\",code=\"200\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
}

#[test]
fn a_services_image_is_fetched_by_the_rights_of_its_execution_role() {
    let upstream = Server::start();
    push(&upstream.http(), "team/app", "1", "to be run");
    let cache = cache_of(upstream.endpoint(), "");
    log_in(&cache, &upstream);
    let role = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";
    let definition = json!({
        "family": "app", "executionRoleArn": role,
        "containerDefinitions": [{"name": "app", "image": cache.image("hub/team/app:1"), "memory": 16}],
    });
    aws(&cache, ["ecs", "register-task-definition", "--cli-input-json", &definition.to_string()]).unwrap();
    let images = || aws(&cache, ["ecr", "describe-images", "--repository-name", "hub/team/app"]);
    let create = ["ecs", "create-service", "--service-name", "app", "--task-definition", "app"];
    aws(&cache, create.into_iter().chain(["--desired-count", "1"])).unwrap();
    let events = || {
        let described = aws(&cache, ["ecs", "describe-services", "--services", "app"]).unwrap();
        described["services"][0]["events"].to_string()
    };
    eventually("the service says what its role may not", || {
        events().contains("ecr:BatchImportUpstreamImage").then_some(())
    });
    assert!(images().is_err(), "nothing was fetched");

    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"], "Resource": "*",
    }]});
    let put = ["iam", "put-role-policy", "--role-name", "ecsTaskExecutionRole", "--policy-name", "import"];
    let policy = policy.to_string();
    aws(&cache, put.into_iter().chain(["--policy-document", policy.as_str()])).unwrap();
    let found = eventually("the image is here", || images().ok());
    assert_eq!(found["imageDetails"][0]["imageTags"], json!(["1"]));
    // What is nowhere is asked for once, not each time the service looks for it.
    let missing = json!({
        "family": "none", "executionRoleArn": role,
        "containerDefinitions": [{"name": "app", "image": cache.image("hub/team/app:none"), "memory": 16}],
    });
    aws(&cache, ["ecs", "register-task-definition", "--cli-input-json", &missing.to_string()]).unwrap();
    for _ in 0..3 {
        let run = aws(&cache, ["ecs", "run-task", "--task-definition", "none"]);
        let told = run.map_or_else(|error| error, |started| started.to_string());
        assert!(told.contains("the upstream does not have it") || told.contains("No Container"), "{told}");
    }
}

#[test]
fn what_was_pulled_once_is_fetched_once_and_outlives_its_upstream() {
    let mut upstream = Server::start();
    let digest = push(&upstream.http(), "team/app", "1", "first");
    let cache = cache_of(upstream.endpoint(), "mirrors = { \"docker.io\" = \"hub\" }");
    let http = cache.http();
    let validate = || {
        let validate = ["ecr", "validate-pull-through-cache-rule", "--ecr-repository-prefix", "hub"];
        aws(&cache, validate).unwrap()
    };
    // The upstream wants somebody it knows.
    let refused = manifest(&http, "hub/team/app", "1");
    assert_eq!((refused.status, refused.oci_code().as_str()), (404, "MANIFEST_UNKNOWN"), "{refused:?}");
    let login = ["upstream", "login", "hub", "--username", upstream.access_key_id()];
    run_with_input(&mut cache.berth(login), b"another password");
    let invalid = validate();
    assert!(invalid["isValid"] == false && invalid["failure"].is_string(), "{invalid}");
    log_in(&cache, &upstream);
    assert_eq!(validate()["isValid"], true, "{}", validate());

    assert_eq!(
        http.head("/v2/hub/team/app/manifests/1").header("docker-content-digest"),
        Some(digest.as_str())
    );
    let pulled = manifest(&http, "hub/team/app", "1");
    assert_eq!((pulled.status, pulled.header("warning")), (200, None), "{pulled:?}");
    assert_eq!(format!("sha256:{}", sha256(&pulled.body)), digest);
    let mirrored = http.get("/v2/team/app/manifests/1?ns=docker.io");
    assert_eq!((mirrored.status, mirrored.header("oci-namespace")), (200, Some("docker.io")), "{mirrored:?}");
    // A hundred clients are one fetch.
    let before = answered(&upstream, "oci:GetBlob");
    let blobs = blobs(&pulled);
    let good = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let path = format!("/v2/hub/team/app/blobs/{}", blobs[0]);
                let answer = cache.http().get(&path);
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_eq!(format!("sha256:{}", sha256(&answer.body)), blobs[0]);
                good.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(good.load(Ordering::Relaxed), 100);
    eventually("one fetch", || (answered(&upstream, "oci:GetBlob") == before + 1).then_some(()));
    assert_eq!(http.get(&format!("/v2/hub/team/app/blobs/{}", blobs[1])).status, 200);
    // What no manifest here names is not fetched, though the upstream has it.
    let other = upstream.http().push_blob("team/app", b"not of this image");
    let absent = http.get(&format!("/v2/hub/team/app/blobs/{other}"));
    assert_eq!((absent.status, absent.oci_code().as_str()), (404, "BLOB_UNKNOWN"), "{absent:?}");
    let missing = manifest(&http, "hub/team/app", "absent");
    assert_eq!((missing.status, missing.oci_code().as_str()), (404, "MANIFEST_UNKNOWN"), "{missing:?}");
    assert_eq!(manifest(&http, "hub/team/none", "1").status, 404);
    assert!(aws(&cache, ["ecr", "describe-repositories", "--repository-names", "hub/team/none"]).is_err());

    // Who made it come stands in the audit log, beside what allowed it.
    let audit = std::fs::read_to_string(cache.data().join("audit.log")).unwrap();
    let imports: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let recorded = imports.iter().any(|line| {
        line["operation"] == "oci:ImportUpstreamImage"
            && line["action"] == "ecr:BatchImportUpstreamImage"
            && line["resource"].as_str().unwrap().ends_with(":repository/hub/team/app")
            && line["change"].is_u64()
    });
    assert!(recorded, "{audit}");
    for secret in [upstream.secret(), cache.secret()] {
        assert!(!cache.log().contains(secret) && !audit.contains(secret));
    }

    upstream.kill();
    for reference in ["1", &digest] {
        assert_eq!(manifest(&http, "hub/team/app", reference).body, pulled.body);
    }
    for blob in &blobs {
        assert_eq!(http.get(&format!("/v2/hub/team/app/blobs/{blob}")).status, 200);
    }
    let away = manifest(&http, "hub/team/app", "2");
    assert_eq!((away.status, away.oci_code().as_str()), (502, "MANIFEST_UNKNOWN"), "{away:?}");
}

#[test]
fn tags_follow_their_upstream_and_what_is_old_is_served_with_a_warning() {
    let mut upstream = Server::start();
    let first = push(&upstream.http(), "app", "latest", "first");
    let cache = cache_of(upstream.endpoint(), "pull_through_revalidate = 0");
    log_in(&cache, &upstream);
    let http = cache.http();
    let digest = |answer: &Response| answer.header("docker-content-digest").unwrap().to_owned();
    assert_eq!(digest(&manifest(&http, "hub/app", "latest")), first);
    let second = push(&upstream.http(), "app", "latest", "second");
    assert_eq!(digest(&manifest(&http, "hub/app", "latest")), second);
    assert_eq!(digest(&manifest(&http, "hub/app", &first)), first, "what was pulled stays");
    // Nobody looks for a tag elsewhere that was pushed here.
    let own = push(&http, "hub/app", "own", "of this registry");
    assert_eq!(digest(&manifest(&http, "hub/app", "own")), own);
    upstream.kill();
    let stale = manifest(&http, "hub/app", "latest");
    assert_eq!((stale.status, digest(&stale)), (200, second.clone()));
    let warning = stale.header("warning").unwrap();
    assert!(warning.starts_with("299 - \"this may be older than at http://127.0.0.1:"), "{warning}");
    assert!(warning.ends_with('"') && warning.matches('"').count() == 2, "{warning}");
    assert_eq!(manifest(&http, "hub/app", "own").header("warning"), None);
    upstream.start_again();
    let third = push(&upstream.http(), "app", "latest", "third");
    eventually("the upstream is asked again", || {
        (digest(&manifest(&http, "hub/app", "latest")) == third).then_some(())
    });
    // One that may not move stays, and is no older than it should be.
    let mutability = ["put-image-tag-mutability", "--repository-name", "hub/app", "--image-tag-mutability"];
    let set = |value| aws(&cache, ["ecr"].into_iter().chain(mutability).chain([value])).unwrap();
    set("IMMUTABLE");
    push(&upstream.http(), "app", "latest", "fourth");
    let held = manifest(&http, "hub/app", "latest");
    assert_eq!((held.status, digest(&held), held.header("warning")), (200, third.clone(), None));
    set("MUTABLE");
    // A tag that the upstream lost is served as it was.
    assert_eq!(upstream.http().delete("/v2/app/manifests/latest").status, 202);
    let kept = manifest(&http, "hub/app", "latest");
    assert_eq!((kept.status, digest(&kept)), (200, third));
    assert!(kept.header("warning").is_some());
}

#[test]
fn an_index_comes_with_what_is_asked_of_it() {
    let upstream = Server::start();
    let http = upstream.http();
    let children = ["amd64", "arm64"].map(|architecture| {
        let digest = push(&http, "app", architecture, architecture);
        let size = manifest(&http, "app", &digest).body.len();
        json!({"mediaType": MANIFEST, "digest": digest, "size": size,
               "platform": {"os": "linux", "architecture": architecture}})
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).to_string();
    put(&http, "app", "multi", INDEX, index.as_bytes());
    let cache = cache_of(upstream.endpoint(), "");
    log_in(&cache, &upstream);
    let pulled = manifest(&cache.http(), "hub/app", "multi");
    assert_eq!((pulled.status, pulled.header("content-type")), (200, Some(INDEX)), "{pulled:?}");
    // What is here takes another tag, though nothing that it names is here.
    put(&cache.http(), "hub/app", "prod", INDEX, index.as_bytes());
    let child = children[1]["digest"].as_str().unwrap();
    let image = manifest(&cache.http(), "hub/app", child);
    assert_eq!(format!("sha256:{}", sha256(&image.body)), child);
    let size = |server: &Server, repository: &str, id: &str| {
        let described = ["ecr", "describe-images", "--repository-name", repository, "--image-ids", id];
        aws(server, described).unwrap()["imageDetails"][0]["imageSizeInBytes"].as_u64().unwrap()
    };
    let by_digest = format!("imageDigest={child}");
    let expected = size(&upstream, "app", &by_digest);
    assert!(expected > 0);
    for id in [by_digest.as_str(), "imageTag=multi"] {
        assert_eq!(size(&cache, "hub/app", id), expected, "before its layers came: {id}");
    }
    for blob in blobs(&image) {
        assert_eq!(cache.http().get(&format!("/v2/hub/app/blobs/{blob}")).status, 200);
    }
    let listed = aws(&cache, ["ecr", "list-images", "--repository-name", "hub/app"]).unwrap();
    let listed = listed["imageIds"].as_array().unwrap();
    assert_eq!(listed.len(), 3, "the index by its two tags, and what was asked for: {listed:?}");
}

#[test]
fn docker_and_crane_pull_through() {
    let (upstream, engine) = (Server::start(), Engine::shared());
    let image = upstream.image("library/app:v1");
    engine.build_busybox(&image, &[]);
    run(upstream.docker(engine).args(["push", &image]));
    let cache = Server::builder()
        .config(&format!("pull_through_private_hosts = [{:?}]", upstream.endpoint()))
        .start();
    create_rule(&cache, "hub", upstream.authority()).unwrap();
    log_in(&cache, &upstream);
    let through = cache.image("hub/library/app:v1");
    run(cache.docker(engine).args(["pull", &through]));
    let id = |image: &str| run(engine.docker().args(["image", "inspect", "--format", "{{.Id}}", image]));
    assert_eq!(id(&through), id(&image));
    run(engine.docker().args(["image", "rm", &through, &image]));
    let home = tempfile::tempdir().unwrap();
    let crane = || {
        let mut command = Command::new(go_tool("crane"));
        command.env("HOME", home.path()).env("DOCKER_CONFIG", home.path().join(".docker"));
        command
    };
    let login = ["auth", "login", cache.authority(), "-u", cache.access_key_id(), "--password-stdin"];
    run_with_input(crane().args(login), cache.secret().as_bytes());
    let second = push(&upstream.http(), "library/other", "v2", "by crane");
    let archive = home.path().join("image.tar");
    let through = cache.image("hub/library/other:v2");
    run(crane().args(["pull", &through]).arg(&archive));
    assert!(archive.metadata().unwrap().len() > 0);
    assert_eq!(run(crane().args(["digest", &through])).trim(), second);
}

#[test]
fn only_who_may_import_makes_anything_be_fetched() {
    const PULLER: &str = "AKIAPULLER000000";
    const IMPORTER: &str = "AKIAIMPORTER0000";
    let upstream = Server::start();
    push(&upstream.http(), "app", "1", "first");
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    let read =
        ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:ListImages"];
    let import = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"];
    let statement = |actions: &[&str]| json!({"Effect": "Allow", "Action": actions, "Resource": "*"});
    files.user("puller", PULLER, &json!([statement(&read)]));
    files.user("importer", IMPORTER, &json!([statement(&read), statement(&import)]));
    let authority = upstream.authority();
    let cache = builder.config(&format!("pull_through_private_hosts = [{authority:?}]")).start();
    create_rule(&cache, "hub", upstream.endpoint()).unwrap();
    log_in(&cache, &upstream);
    let nobody = cache.anonymous();
    let (puller, importer) = (nobody.basic(PULLER, SECRET), nobody.basic(IMPORTER, SECRET));
    eventually("the files are in effect", || (puller.get("/v2/").status == 200).then_some(()));
    assert_eq!(manifest(&nobody, "hub/app", "1").status, 401);
    let refused = manifest(&puller, "hub/app", "1");
    assert_eq!((refused.status, refused.oci_code().as_str()), (403, "DENIED"), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.body).contains("ecr:BatchImportUpstreamImage"), "{refused:?}");
    // The same through ECR's API.
    let api = |operation: &str, member: &str, value: &Value| {
        let input = json!({"repositoryName": "hub/app", member: value}).to_string();
        Signer::new(cache.endpoint(), Some((PULLER, SECRET))).call(&ECR, operation, &input)
    };
    let refused = |answer: Response| {
        let message = answer.json();
        assert_eq!(message["__type"], "AccessDeniedException", "{message}");
        assert!(message["message"].as_str().unwrap().contains("ecr:BatchImportUpstreamImage"), "{message}");
    };
    refused(api("BatchGetImage", "imageIds", &json!([{"imageTag": "1"}])));
    assert_eq!(answered(&upstream, "oci:GetManifest"), 0);
    // Nor is anybody's list of referrers asked for; whoever gets none of the upstream is told.
    let referrers = format!("/v2/hub/app/referrers/sha256:{}", sha256(b"an image"));
    let listed = puller.get(&referrers);
    assert!(
        listed.status == 200 && listed.header("warning").unwrap().contains("may not import"),
        "{listed:?}"
    );
    assert_eq!(answered(&upstream, "oci:ListReferrers"), 0);
    let listed = importer.get(&referrers);
    assert_eq!((listed.status, listed.header("warning")), (200, None), "{listed:?}");
    assert_eq!(answered(&upstream, "oci:ListReferrers"), 1);
    let pulled = manifest(&importer, "hub/app", "1");
    assert_eq!(pulled.status, 200, "{pulled:?}");
    assert_eq!(manifest(&puller, "hub/app", "1").body, pulled.body, "what is here needs no import");
    let blob = format!("/v2/hub/app/blobs/{}", blobs(&pulled)[0]);
    assert_eq!(puller.get(&blob).status, 403);
    refused(api("GetDownloadUrlForLayer", "layerDigest", &json!(blobs(&pulled)[0])));
    // As every push asks before it sends a blob: no upstream is meant.
    let unnamed = puller.get(&format!("/v2/hub/app/blobs/sha256:{}", sha256(b"not of an image")));
    assert_eq!((unnamed.status, unnamed.oci_code().as_str()), (404, "BLOB_UNKNOWN"), "{unnamed:?}");
    assert_eq!(importer.get(&blob).status, 200);
    assert_eq!(puller.get(&blob).status, 200);
}

#[test]
fn rules_live_as_the_aws_cli_knows_them() {
    let mut server = Server::start();
    let made = aws(
        &server,
        ["ecr", "create-pull-through-cache-rule", "--ecr-repository-prefix", "docker-hub"]
            .into_iter()
            .chain(["--upstream-registry-url", "registry-1.docker.io", "--upstream-registry", "docker-hub"]),
    )
    .unwrap();
    assert_eq!(made["ecrRepositoryPrefix"], "docker-hub");
    assert_eq!(made["upstreamRegistryUrl"], "registry-1.docker.io");
    assert_eq!(made["upstreamRepositoryPrefix"], "ROOT");
    assert_eq!(made["registryId"], "000000000000");
    let again = create_rule(&server, "docker-hub", "quay.io").unwrap_err();
    assert!(again.contains("PullThroughCacheRuleAlreadyExistsException"), "{again}");
    create_rule(&server, "quay", "quay.io").unwrap();
    create_rule(&server, "ROOT", "ghcr.io").unwrap();
    let describe = |more: &[&str]| {
        let command = ["ecr", "describe-pull-through-cache-rules"].into_iter().chain(more.iter().copied());
        aws(&server, command)
    };
    let prefixes = |answer: &Value| -> Vec<String> {
        let rules = answer["pullThroughCacheRules"].as_array().unwrap();
        rules.iter().map(|rule| rule["ecrRepositoryPrefix"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(prefixes(&describe(&[]).unwrap()), ["ROOT", "docker-hub", "quay"]);
    assert_eq!(prefixes(&describe(&["--page-size", "1"]).unwrap()), ["ROOT", "docker-hub", "quay"]);
    assert_eq!(prefixes(&describe(&["--ecr-repository-prefixes", "quay"]).unwrap()), ["quay"]);
    let unknown = describe(&["--ecr-repository-prefixes", "gone"]).unwrap_err();
    assert!(unknown.contains("PullThroughCacheRuleNotFoundException"), "{unknown}");
    for (upstream, exception) in [
        ("127.0.0.1:5000", "UnsupportedUpstreamRegistryException"),
        ("http://quay.io", "UnsupportedUpstreamRegistryException"),
        ("169.254.169.254", "UnsupportedUpstreamRegistryException"),
        ("https://user:secret@quay.io", "UnsupportedUpstreamRegistryException"),
    ] {
        let refused = create_rule(&server, "forged", upstream).unwrap_err();
        assert!(refused.contains(exception), "{upstream}: {refused}");
    }
    let arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:ecr-pullthroughcache/a-1";
    let update = ["ecr", "update-pull-through-cache-rule", "--ecr-repository-prefix", "quay"];
    let secret = aws(&server, update.into_iter().chain(["--credential-arn", arn])).unwrap_err();
    assert!(
        secret.contains("UnableToAccessSecretException") && secret.contains("berth upstream login"),
        "{secret}"
    );
    let delete = ["ecr", "delete-pull-through-cache-rule", "--ecr-repository-prefix", "quay"];
    assert_eq!(aws(&server, delete).unwrap()["ecrRepositoryPrefix"], "quay");
    assert!(aws(&server, delete).unwrap_err().contains("PullThroughCacheRuleNotFoundException"));
    // The password of a rule lies nowhere in clear.
    let login = ["upstream", "login", "docker-hub", "--username", "me"];
    run_with_input(&mut server.berth(login), b"CANARY-upstream-password\n");
    server.stop();
    lies_nowhere(&server, b"CANARY-upstream-password");
    server.start_again();
    run(&mut server.berth(["upstream", "logout", "docker-hub"]));
}
