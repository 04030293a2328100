//! Push and pull with the clients people use.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use test_support::{
    Engine, Layer, Server, go_tool, image_archive, run, run_with_input, sha256, static_image,
};

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

/// A program of ours from Go, with a home of its own.
fn tool(name: &str, home: &Path) -> Command {
    let mut command = Command::new(go_tool(name));
    command.env("HOME", home).env("DOCKER_CONFIG", home.join(".docker")).current_dir(home);
    command
}

#[test]
fn crane_copies_lists_and_deletes() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let layout = home.path().join("layout");
    image_archive(&layout, "app", &[Layer { path: "marker", bytes: b"crane" }]);
    let crane = || tool("crane", home.path());
    let login = ["auth", "login", server.authority(), "-u", server.access_key_id(), "--password-stdin"];
    run_with_input(crane().args(login), server.secret().as_bytes());
    let image = server.image("crane/app:1");
    run(crane().args(["push", "layout", &image]));
    run(crane().args(["copy", &image, &server.image("crane/copied:2")]));
    assert_eq!(
        run(crane().args(["digest", &image])),
        run(crane().args(["digest", &server.image("crane/copied:2")]))
    );
    run(crane().args(["tag", &image, "latest"]));
    assert_eq!(run(crane().args(["ls", &server.image("crane/app")])), "1\nlatest");
    assert_eq!(run(crane().args(["catalog", server.authority()])), "crane/app\ncrane/copied");
    run(crane().args(["pull", &image, "pulled.tar"]));
    run(crane().args(["delete", &server.image("crane/app:latest")]));
    assert_eq!(run(crane().args(["ls", &server.image("crane/app")])), "1");
}

#[test]
fn oras_attaches_artifacts_and_finds_them() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("file.txt"), b"an artifact").unwrap();
    std::fs::write(home.path().join("sbom.json"), b"{}").unwrap();
    let oras = || tool("oras", home.path());
    let login =
        ["login", "--plain-http", server.authority(), "-u", server.access_key_id(), "--password-stdin"];
    run_with_input(oras().args(login), server.secret().as_bytes());
    let image = server.image("oras/app:1");
    run(oras().args(["push", "--plain-http", "--artifact-type", "application/x.app", &image, "file.txt"]));
    run(oras().args([
        "attach",
        "--plain-http",
        "--artifact-type",
        "application/x.sbom",
        &image,
        "sbom.json",
    ]));
    let found = run(oras().args(["discover", "--plain-http", "--format", "json", &image]));
    assert!(found.contains("application/x.sbom"), "{found}");
    assert_eq!(
        run(oras().args(["repo", "tags", "--plain-http", &server.image("oras/app")])),
        "1",
        "no fallback tag"
    );
    let copied = server.image("oras/copied:1");
    run(oras().args(["copy", "--from-plain-http", "--to-plain-http", "-r", &image, &copied]));
    assert!(
        run(oras().args(["discover", "--plain-http", "--format", "json", &copied]))
            .contains("application/x.sbom")
    );
    run(oras().args(["pull", "--plain-http", &copied, "-o", "out"]));
    assert_eq!(std::fs::read(home.path().join("out/file.txt")).unwrap(), b"an artifact");
}

#[test]
#[ignore = "long: regctl, helm and cosign are built from source"]
fn regctl_helm_and_cosign_work() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let layout = home.path().join("layout");
    image_archive(&layout, "app", &[Layer { path: "marker", bytes: b"regctl" }]);
    let (host, user) = (server.authority(), server.access_key_id());
    let secret = server.secret().as_bytes();

    let regctl = || tool("regctl", home.path());
    run(regctl().args(["registry", "set", "--tls", "disabled", host]));
    run_with_input(regctl().args(["registry", "login", host, "-u", user, "--pass-stdin"]), secret);
    let image = server.image("regctl/app:1");
    run(regctl().args(["image", "copy", "ocidir://layout:app", &image]));
    run(regctl().args(["image", "copy", &image, &server.image("regctl/copied:1")]));
    std::fs::write(home.path().join("note"), b"note").unwrap();
    let artifact =
        ["artifact", "put", "--artifact-type", "application/x.note", "--subject", &image, "-f", "note"];
    run(regctl().args(artifact));
    assert!(run(regctl().args(["artifact", "list", &image])).contains("application/x.note"));
    assert_eq!(run(regctl().args(["tag", "ls", &server.image("regctl/app")])), "1");

    let helm = || tool("helm", home.path());
    run_with_input(
        helm().args(["registry", "login", "--plain-http", host, "-u", user, "--password-stdin"]),
        secret,
    );
    run(helm().args(["create", "chart"]));
    run(helm().args(["package", "chart"]));
    run(helm().args(["push", "--plain-http", "chart-0.1.0.tgz", &format!("oci://{host}/charts")]));
    let chart = format!("oci://{host}/charts/chart");
    assert!(
        run(helm().args(["show", "chart", "--plain-http", &chart, "--version", "0.1.0"]))
            .contains("name: chart")
    );

    let cosign = || {
        let mut command = tool("cosign", home.path());
        command.env("COSIGN_PASSWORD", "").env("COSIGN_YES", "true");
        command
    };
    let insecure = ["--allow-http-registry", "--allow-insecure-registry"];
    run_with_input(cosign().args(["login", host, "-u", user, "--password-stdin"]), secret);
    run(cosign().args(["generate-key-pair"]));
    run(cosign().args(["sign", "--key", "cosign.key", "--tlog-upload=false"]).args(insecure).arg(&image));
    run(cosign()
        .args(["verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true"])
        .args(insecure)
        .arg(&image));
}
