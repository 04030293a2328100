//! Push and pull with the clients people use.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use test_support::{Engine, Layer, Server, image_archive, run, sha256, static_image};

#[test]
fn docker_pushes_and_pulls() {
    let (server, engine) = (Server::start(), Engine::shared());
    let image = server.image("team/app:1");
    engine.build_busybox(&image, &[("/marker", b"docker")]);
    let before = engine.inspect(&image, "{{.Id}}");

    run(server.docker(engine).args(["push", &image]));
    run(engine.docker().args(["rmi", &image]));
    run(server.docker(engine).args(["pull", &image]));

    assert_eq!(engine.inspect(&image, "{{.Id}}"), before);
    run(engine.docker().args(["rmi", &image]));
}

#[test]
fn docker_pushes_half_a_gigabyte() {
    let (server, engine) = (Server::start(), Engine::shared());
    let image = server.image("large:1");
    let mut noise = vec![0; 500 << 20];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
    engine.build_busybox(&image, &[("/noise", &noise)]);
    drop(noise);
    let before = engine.inspect(&image, "{{.Id}}");

    run(server.docker(engine).args(["push", &image]));
    run(engine.docker().args(["rmi", &image]));
    run(server.docker(engine).args(["pull", &image]));

    assert_eq!(engine.inspect(&image, "{{.Id}}"), before);
    run(engine.docker().args(["rmi", &image]));
}

/// podman and buildah with storage of their own, in `dir`.
fn with_storage(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--root").arg(dir.join("root")).arg("--runroot").arg(dir.join("run"));
    command.args(["--storage-driver", "vfs"]);
    command
}

#[test]
fn podman_pushes_and_pulls() {
    let server = Server::start();
    // podman makes a name of the layout's path, so it must be in lower case.
    let name = format!("podman-{}", server.port());
    let dir = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir().unwrap();
    let layout = dir.path().join("layout");
    image_archive(&layout, "app", &[Layer { path: "marker", bytes: b"podman" }]);
    let image = server.image("podman/app:1");
    let credentials = format!("{}:{}", server.access_key_id(), server.secret());
    let podman = || with_storage("podman", dir.path());

    let id = run(podman().args(["pull", "--quiet"]).arg(format!("oci:{}:app", layout.display())));
    run(podman().args(["push", "--tls-verify=false", "--creds", &credentials, &id, &image]));
    run(podman().args(["rmi", "--all", "--force"]));
    let pulled =
        run(podman().args(["pull", "--quiet", "--tls-verify=false", "--creds", &credentials, &image]));

    assert_eq!(pulled, id);
}

#[test]
fn buildah_pushes_and_pulls() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let image = server.image("buildah/app:1");
    let credentials = format!("{}:{}", server.access_key_id(), server.secret());
    let buildah = || with_storage("buildah", dir.path());
    std::fs::write(dir.path().join("marker"), b"buildah").unwrap();

    let container = run(buildah().args(["from", "scratch"]));
    run(buildah().args(["copy", &container]).arg(dir.path().join("marker")).arg("/marker"));
    run(buildah().args(["commit", "--quiet", &container, "localhost/app"]));
    run(buildah().args([
        "push",
        "--tls-verify=false",
        "--creds",
        &credentials,
        "localhost/app",
        &format!("docker://{image}"),
    ]));
    run(buildah().args(["rm", "--all"]));
    run(buildah().args(["rmi", "--all", "--force"]));
    run(buildah().args(["pull", "--quiet", "--tls-verify=false", "--creds", &credentials, &image]));
}

#[test]
fn skopeo_copies_a_multi_arch_index_and_docker_pulls_its_platform() {
    let (server, engine) = (Server::start(), Engine::shared());
    let http = server.http();
    let mut children = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let (config, layer, manifest) =
            static_image(architecture, &[Layer { path: "marker", bytes: architecture.as_bytes() }]);
        http.push_blob("multi", &config);
        http.push_blob("multi", &layer);
        let digest = format!("sha256:{}", sha256(&manifest));
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let put =
            http.put(&format!("/v2/multi/manifests/{digest}"), &[("content-type", media_type)], &manifest);
        assert_eq!(put.status, 201, "{put:?}");
        children.push(json!({
            "mediaType": media_type, "digest": digest, "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index =
        serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": media_type, "manifests": children}))
            .unwrap();
    assert_eq!(http.put("/v2/multi/manifests/1", &[("content-type", media_type)], &index).status, 201);

    let credentials = format!("{}:{}", server.access_key_id(), server.secret());
    run(Command::new("skopeo").args([
        "copy",
        "--all",
        "--preserve-digests",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--src-creds",
        &credentials,
        "--dest-creds",
        &credentials,
        &format!("docker://{}", server.image("multi:1")),
        &format!("docker://{}", server.image("copied/multi:2")),
    ]));
    let copied = http.get("/v2/copied/multi/manifests/2");
    assert_eq!(copied.status, 200);
    assert_eq!(copied.body, index);
    assert_eq!(copied.header("content-type"), Some(media_type));

    let image = server.image("copied/multi:2");
    run(server.docker(engine).args(["pull", &image]));
    assert_eq!(engine.inspect(&image, "{{.Architecture}}"), "amd64");
    run(engine.docker().args(["rmi", &image]));
}

#[test]
fn docker_logs_in_with_an_ecr_password() {
    let (server, engine) = (Server::start(), Engine::shared());
    let password = run(server.aws_command().args(["ecr", "get-login-password", "--output", "text"]));
    let image = server.image("login:1");
    engine.build_busybox(&image, &[]);
    run(server.docker_as(engine, "AWS", &password).args(["push", &image]));
    run(engine.docker().args(["rmi", &image]));
}
