//! `aws ecr` against the registry.

pub(crate) mod lifecycle;
mod registry;

use test_support::{Engine, Server, aws, run};

#[test]
fn repositories_live_from_create_to_delete() {
    let server = Server::start();
    let created = aws(
        &server,
        ["ecr", "create-repository", "--repository-name", "team/app", "--tags", "Key=owner,Value=me"],
    )
    .unwrap();
    let repository = &created["repository"];
    assert_eq!(repository["repositoryArn"], "arn:aws:ecr:us-east-1:000000000000:repository/team/app");
    assert_eq!(repository["repositoryUri"], format!("{}/team/app", server.authority()));
    assert_eq!(repository["imageTagMutability"], "MUTABLE");

    let again = aws(&server, ["ecr", "create-repository", "--repository-name", "team/app"]).unwrap_err();
    assert!(again.contains("RepositoryAlreadyExistsException"), "{again}");
    let arn = repository["repositoryArn"].as_str().unwrap();
    let tags = aws(&server, ["ecr", "list-tags-for-resource", "--resource-arn", arn]).unwrap();
    assert_eq!(tags["tags"][0]["Key"], "owner");
    aws(&server, ["ecr", "untag-resource", "--resource-arn", arn, "--tag-keys", "owner"]).unwrap();
    assert_eq!(
        aws(&server, ["ecr", "list-tags-for-resource", "--resource-arn", arn]).unwrap()["tags"]
            .as_array()
            .unwrap()
            .len(),
        0
    );

    aws(&server, ["ecr", "delete-repository", "--repository-name", "team/app"]).unwrap();
    let gone = aws(&server, ["ecr", "describe-repositories", "--repository-names", "team/app"]).unwrap_err();
    assert!(gone.contains("RepositoryNotFoundException"), "{gone}");
    assert!(gone.contains("does not exist in the registry with id '000000000000'"), "{gone}");
}

#[test]
fn images_are_listed_described_and_deleted() {
    let (server, engine) = (Server::start(), Engine::shared());
    let image = server.image("app:v1");
    engine.build_busybox(&image, &[]);
    run(server.docker(engine).args(["push", &image]));

    let listed = aws(&server, ["ecr", "list-images", "--repository-name", "app"]).unwrap();
    assert_eq!(listed["imageIds"][0]["imageTag"], "v1");
    let described =
        aws(&server, ["ecr", "describe-images", "--repository-name", "app", "--image-ids", "imageTag=v1"])
            .unwrap();
    assert!(described["imageDetails"][0]["imageSizeInBytes"].as_u64().unwrap() > 100_000, "{described}");
    assert_eq!(described["imageDetails"][0]["imageTags"][0], "v1");
    let got =
        aws(&server, ["ecr", "batch-get-image", "--repository-name", "app", "--image-ids", "imageTag=v1"])
            .unwrap();
    assert!(got["images"][0]["imageManifest"].as_str().unwrap().contains("schemaVersion"));

    let not_empty = aws(&server, ["ecr", "delete-repository", "--repository-name", "app"]).unwrap_err();
    assert!(not_empty.contains("RepositoryNotEmptyException"), "{not_empty}");
    let deleted = aws(
        &server,
        [
            "ecr",
            "batch-delete-image",
            "--repository-name",
            "app",
            "--image-ids",
            "imageTag=v1",
            "imageTag=none",
        ],
    )
    .unwrap();
    assert_eq!(deleted["imageIds"].as_array().unwrap().len(), 1, "{deleted}");
    assert_eq!(deleted["failures"][0]["failureCode"], "ImageNotFound");
    assert_eq!(server.http().get("/v2/app/manifests/v1").status, 404);
    run(engine.docker().args(["rmi", &image]));
}

#[test]
fn immutable_tags_do_not_move() {
    let (server, engine) = (Server::start(), Engine::shared());
    aws(
        &server,
        ["ecr", "create-repository", "--repository-name", "fixed", "--image-tag-mutability", "IMMUTABLE"],
    )
    .unwrap();
    let image = server.image("fixed:v1");
    engine.build_busybox(&image, &[("/n", b"1")]);
    run(server.docker(engine).args(["push", &image]));
    run(server.docker(engine).args(["push", &image]));
    let first = server.http().get("/v2/fixed/manifests/v1");
    engine.build_busybox(&image, &[("/n", b"2")]);
    let refused = test_support::try_run(server.docker(engine).args(["push", &image])).unwrap_err();
    assert!(refused.contains("immutable"), "{refused}");
    assert_eq!(server.http().get("/v2/fixed/manifests/v1").body, first.body);

    aws(
        &server,
        [
            "ecr",
            "put-image-tag-mutability",
            "--repository-name",
            "fixed",
            "--image-tag-mutability",
            "MUTABLE",
        ],
    )
    .unwrap();
    run(server.docker(engine).args(["push", &image]));
    assert_ne!(server.http().get("/v2/fixed/manifests/v1").body, first.body);
    run(engine.docker().args(["rmi", &image]));
}

#[test]
fn a_repository_policy_opens_the_repository_to_strangers() {
    let server = Server::start();
    server.http().push_blob("public", b"content");
    let digest = test_support::sha256(b"content");
    assert_eq!(server.anonymous().get(&format!("/v2/public/blobs/sha256:{digest}")).status, 401);
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Sid":"anyone","Effect":"Allow","Principal":"*","Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer","ecr:BatchCheckLayerAvailability"]}]}"#;
    aws(&server, ["ecr", "set-repository-policy", "--repository-name", "public", "--policy-text", policy])
        .unwrap();
    let token = server.anonymous().get("/token?service=berth&scope=repository:public:pull");
    assert_eq!(token.status, 200, "{token:?}");
    let stranger = server.anonymous().bearer(token.json()["token"].as_str().unwrap());
    assert_eq!(stranger.get(&format!("/v2/public/blobs/sha256:{digest}")).body, b"content");
    let push = stranger.post("/v2/public/blobs/uploads/", &[], b"");
    assert!(push.status == 401 || push.status == 403, "{push:?}");

    let shown = aws(&server, ["ecr", "get-repository-policy", "--repository-name", "public"]).unwrap();
    assert!(shown["policyText"].as_str().unwrap().contains("anyone"));
    aws(&server, ["ecr", "delete-repository-policy", "--repository-name", "public"]).unwrap();
    let closed = stranger.get(&format!("/v2/public/blobs/sha256:{digest}"));
    assert!(closed.status == 401 || closed.status == 403, "{closed:?}");
    let bad = aws(
        &server,
        [
            "ecr",
            "set-repository-policy",
            "--repository-name",
            "public",
            "--policy-text",
            "{\"Version\":\"2012-10-17\"}",
        ],
    )
    .unwrap_err();
    assert!(bad.contains("InvalidParameterException"), "{bad}");
}
