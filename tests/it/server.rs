//! Starting, stopping and being told apart: what scripts and operators rely on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use test_support::{Disk, Server, aws, eventually, run, try_run};

use crate::backup::problems;

#[test]
fn starts_within_a_second_and_answers_ready() {
    let mut server = Server::start();
    server.stop();
    let begin = Instant::now();
    server.start_again();
    assert!(begin.elapsed() < Duration::from_secs(1), "took {:?}", begin.elapsed());
    assert_eq!(server.anonymous().get("/readyz").status, 200);
    assert_eq!(server.anonymous().get("/healthz").status, 200);
}

#[test]
fn first_start_writes_credentials_that_only_the_owner_reads() {
    let server = Server::start();
    let mode = std::fs::metadata(server.data().join("credentials")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(server.secret().len() >= 32);
    assert!(!server.log().contains(server.secret()), "the secret is in the log");
}

#[test]
fn bootstrap_key_is_used_at_the_first_start_only() {
    let (id, secret) = ("BOOTSTRAPKEY0000", "a-secret-of-more-than-32-characters-0123456789");
    let mut server = Server::builder()
        .env("BERTH_BOOTSTRAP_ACCESS_KEY_ID", id)
        .env("BERTH_BOOTSTRAP_SECRET_ACCESS_KEY", secret)
        .start();
    let identity = run(server.aws_command_as(id, secret).args(["sts", "get-caller-identity"]));
    assert!(identity.contains("000000000000"), "{identity}");
    server.stop();
    server.start_again();
    run(server.aws_command_as(id, secret).args(["sts", "get-caller-identity"]));
}

#[test]
fn a_lost_administrator_is_reset_while_the_server_runs() {
    let server = Server::start();
    let (id, secret) = (server.access_key_id().to_owned(), server.secret().to_owned());
    let printed = run(&mut server.berth(["admin", "reset"]));
    assert!(printed.contains("new access key"), "{printed}");
    let credentials = std::fs::read_to_string(server.data().join("credentials")).unwrap();
    assert!(!credentials.contains(&id) && !printed.contains(&secret));
    test_support::eventually("the old key is refused", || {
        try_run(server.aws_command_as(&id, &secret).args(["sts", "get-caller-identity"])).err()
    });
    run(&mut server.berth(["cluster", "join-token", "default"]));
}

#[test]
fn a_policy_that_refuses_everybody_is_removed_on_the_servers_machine() {
    let server = Server::start();
    let ecr = |args: &[&str]| test_support::aws(&server, ["ecr"].iter().chain(args));
    let everybody =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"ecr:*"}]}"#;
    ecr(&["create-repository", "--repository-name", "app"]).unwrap();
    let policy = ["--repository-name", "app", "--force", "--policy-text", everybody];
    ecr(&[&["set-repository-policy"][..], &policy].concat()).unwrap();
    let refused = ecr(&["delete-repository-policy", "--repository-name", "app"]).unwrap_err();
    assert!(refused.contains("AccessDenied"), "{refused}");
    let printed = run(&mut server.berth(["admin", "unlock", "app"]));
    assert!(printed.contains("\"Deny\""), "{printed}");
    test_support::eventually("the repository is open again", || {
        ecr(&["describe-images", "--repository-name", "app"]).ok()
    });
    for (repository, told) in [("app", "has no policy"), ("absent", "policy of absent")] {
        let refused = try_run(&mut server.berth(["admin", "unlock", repository])).unwrap_err();
        assert!(refused.contains(told), "{refused}");
    }
    // The registry's own, too.
    ecr(&["put-registry-policy", "--policy-text", r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"ecr:*","Resource":"*"}]}"#]).unwrap();
    run(&mut server.berth(["admin", "unlock"]));
    test_support::eventually("the registry has no policy", || {
        ecr(&["delete-registry-policy"]).err().filter(|error| error.contains("RegistryPolicyNotFound"))
    });
}

#[test]
fn output_that_nobody_reads_ends_a_command_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("questions"), "{}\n").unwrap();
    let (dir, questions) = (folder.path().to_str().unwrap(), folder.path().join("questions"));
    let check = ["policy", "check", dir];
    let batch = ["policy", "simulate", "--batch", questions.to_str().unwrap()];
    for args in [check.as_slice(), &batch] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = Command::new(test_support::binary()).args(args).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), said.as_ref()), (Some(141), ""), "{args:?}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let ended = Command::new(test_support::binary()).args(check).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.code() == Some(1) && said.starts_with("error: the output cannot be written: No space"),
        "{said}"
    );
}

#[test]
fn second_server_on_the_same_data_is_refused() {
    let server = Server::start();
    let error = try_run(&mut server.berth(["serve", "--listen", "127.0.0.1:0"])).unwrap_err();
    assert!(error.contains("another"), "{error}");
}

#[test]
fn plain_http_off_loopback_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Server::start().berth(["serve", "--listen", "0.0.0.0:0"]);
    command.env("BERTH_DATA", data.path()).env("BERTH_TLS", "off");
    let error = try_run(&mut command).unwrap_err();
    assert!(error.contains("plain_http"), "{error}");
}

#[test]
fn unknown_configuration_key_is_named_with_its_line() {
    let data = tempfile::tempdir().unwrap();
    let config = data.path().join("berth.toml");
    std::fs::write(&config, "region = \"us-east-1\"\nlisten_adress = \"127.0.0.1:1\"\n").unwrap();
    let mut command = Server::start().berth(["serve"]);
    let error = try_run(command.arg("--config").arg(&config)).unwrap_err();
    assert!(error.contains("listen_adress") && error.contains("berth.toml"), "{error}");
}

#[test]
fn a_key_that_is_gone_is_missed_and_not_made_anew() {
    let mut server = Server::start();
    let digest = server.http().push_blob("app", b"content");
    server.stop();
    let key = server.data().join("keys/default-1.key");
    let secret = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let refused = try_run(&mut server.berth(["serve", "--listen", "127.0.0.1:0"])).unwrap_err();
    assert!(refused.contains("epoch 1 of key domain `default`") && refused.contains("key_dir"), "{refused}");
    assert!(!key.exists(), "another would open nothing of what is stored");
    std::fs::write(&key, secret).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    server.start_again();
    assert_eq!(server.http().get(&format!("/v2/app/blobs/{digest}")).body, b"content");
}

#[test]
fn a_disk_that_fills_up_is_told_and_all_goes_on_once_there_is_space() {
    let builder = Server::builder();
    let disk = Disk::format("ext4", 64, builder.data());
    let server = builder.start();
    server.http().push_blob("app", b"before");
    let is_told = || problems(&server).iter().any(|problem| problem.contains("little space left"));
    assert!(!is_told());
    let filler = server.data().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 1 << 16]).is_ok() {}
    eventually("the disk is told to be full", || is_told().then_some(()));
    let blob = [1; 1 << 12];
    let path = format!("/v2/app/blobs/uploads/?digest=sha256:{}", test_support::sha256(&blob));
    let refused = server.http().post(&path, &[], &blob);
    assert!(refused.status >= 500, "{refused:?}");
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    eventually("it is not full any more", || (!is_told()).then_some(()));
    server.http().push_blob("app", b"after");
    drop((server, disk));
}

#[test]
fn terminated_server_finishes_the_request_in_flight() {
    let mut server = Server::start();
    let started = server.http().post("/v2/slow/blobs/uploads/", &[], b"");
    let location = started.header("location").unwrap().to_owned();
    let authorization = server.http();
    let mut stream = TcpStream::connect(server.authority()).unwrap();
    let digest = test_support::sha256(b"hello world");
    let header = format!(
        "PUT {location}?digest=sha256:{digest} HTTP/1.1\r\nHost: berth\r\nAuthorization: {}\r\nContent-Length: 11\r\n\
         Expect: 100-continue\r\n\r\n",
        authorization.authorization().unwrap()
    );
    stream.write_all(header.as_bytes()).unwrap();
    // It says so once it reads the body.
    let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut go_on).unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&go_on));
    stream.write_all(b"hello").unwrap();
    std::thread::spawn({
        let mut stream = stream.try_clone().unwrap();
        move || {
            std::thread::sleep(Duration::from_millis(500));
            stream.write_all(b" world").unwrap();
        }
    });
    assert!(server.stop().success());
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    server.start_again();
    assert_eq!(server.http().head(&format!("/v2/slow/blobs/sha256:{digest}")).status, 200);
}

#[test]
fn help_teaches_every_command() {
    let server = Server::start();
    for args in [
        vec!["--help"],
        vec!["up", "--help"],
        vec!["serve", "--help"],
        vec!["agent", "--help"],
        vec!["cluster", "join-token", "--help"],
        vec!["policy", "check", "--help"],
        vec!["policy", "apply", "--help"],
        vec!["policy", "simulate", "--help"],
        vec!["deploy", "--help"],
        vec!["admin", "reset", "--help"],
        vec!["trust", "--help"],
        vec!["profile", "install", "--help"],
        vec!["profile", "remove", "--help"],
    ] {
        let mut command = Command::new(server.berth([]).get_program());
        let help = run(command.args(&args));
        assert!(help.contains("Usage:"), "{args:?}: {help}");
    }
}

#[test]
fn every_api_refuses_strangers_and_unknown_operations() {
    let server = Server::start();
    for target in [
        "AmazonEC2ContainerServiceV20141113.ListClusters",
        "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories",
        "Berth_20261101.CreateJoinToken",
    ] {
        let answer = server.anonymous().post(
            "/",
            &[("x-amz-target", target), ("content-type", "application/x-amz-json-1.1")],
            b"{}",
        );
        assert_eq!(answer.status, 400, "{target}: {answer:?}");
        assert!(
            answer.json()["__type"].as_str().unwrap().contains("MissingAuthenticationToken"),
            "{answer:?}"
        );
    }
    let error = aws(&server, ["ecs", "describe-capacity-providers"]).unwrap_err();
    assert!(error.contains("UnsupportedFeatureException") || error.contains("not supported"), "{error}");
    let answer = server.anonymous().post("/", &[("x-amz-target", "Nonsense.Nothing")], b"{}");
    assert!(answer.status == 400 || answer.status == 404, "{answer:?}");
    let refused = server.anonymous().send("GET", "/v2/", &[("x-berth-session", "admin")], b"");
    assert_eq!(refused.status, 400);
}
