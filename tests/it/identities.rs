//! Who comes from elsewhere, and who is bounded: with docker and `aws`, end to end.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use test_support::{Engine, Server, eventually, run, run_with_input, try_run};

use crate::issuer::Issuer;
use crate::policy_files::{Files, SECRET};

const ADMIN: &str = "AKIABOUNDED00000";
const GUEST: &str = "AKIAGUEST0000000";
const PUSH: [&str; 7] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:CreateRepository",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];

/// `aws` with credentials of a session.
fn with_session(server: &Server, credentials: &Value) -> Command {
    let mut command = server.aws_command_as(
        credentials["AccessKeyId"].as_str().unwrap(),
        credentials["SecretAccessKey"].as_str().unwrap(),
    );
    command.env("AWS_SESSION_TOKEN", credentials["SessionToken"].as_str().unwrap());
    command
}

fn audit(server: &Server) -> Vec<Value> {
    let text = std::fs::read_to_string(server.data().join("audit.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_job_of_a_ci_system_pushes_without_a_stored_secret() {
    let (issuer, engine) = (Issuer::start(), Engine::shared());
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &issuer.ca).unwrap();
    let name = &issuer.name;
    let builder = Server::builder()
        .config(&format!("oidc_ca_file = {:?}\noidc_private_hosts = [{name:?}]", ca.display().to_string()));
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    files.write("oidcProviders/ci.json", &json!({"url": format!("https://{name}"), "clientIds": ["berth"]}));
    files.write("roles/ci.json", &json!({
        "trustPolicy": {"Version": "2012-10-17", "Statement": {
            "Effect": "Allow",
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Principal": {"Federated": format!("arn:aws:iam::000000000000:oidc-provider/{name}")},
            "Condition": {
                "StringEquals": {format!("{name}:aud"): "berth", format!("{name}:repository"): "team/app"},
                "StringLike": {format!("{name}:sub"): "repo:team/app:*"},
            },
        }},
        "inlinePolicies": {"push": {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
            {"Effect": "Allow", "Action": PUSH, "Resource": "arn:aws:ecr:*:*:repository/team/app"},
        ]}},
    }));
    let server = builder.start();
    let assume = |subject: &str| {
        // Nothing of a stored secret is there.
        let mut command = server.aws_command_as("", "");
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command.args(["sts", "assume-role-with-web-identity", "--role-session-name", "job-7"]);
        command.args(["--role-arn", "arn:aws:iam::000000000000:role/ci", "--web-identity-token"]);
        try_run(command.arg(issuer.token(subject)))
    };
    let answer = eventually("the role is there", || assume("repo:team/app:ref:main").ok());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["SubjectFromWebIdentityToken"], "repo:team/app:ref:main");
    assert_eq!(answer["Audience"], "berth");
    let refused = assume("repo:team/other:ref:main").unwrap_err();
    assert!(refused.contains("AccessDenied"), "{refused}");

    let credentials = &answer["Credentials"];
    let password = run(with_session(&server, credentials).args(["ecr", "get-login-password"]));
    let docker = || server.docker_as(engine, "AWS", password.trim());
    let (image, other) = (server.image("team/app:7"), server.image("team/other:7"));
    engine.build_busybox(&image, &[("/ci", b"x")]);
    run(engine.docker().args(["tag", &image, &other]));
    run(docker().args(["push", &image]));
    assert!(try_run(docker().args(["push", &other])).is_err());
    run(engine.docker().args(["rmi", &image, &other]));

    let lines = audit(&server);
    let session = "arn:aws:sts::000000000000:assumed-role/ci/job-7";
    let pushed = lines.iter().find(|line| line["action"] == "ecr:PutImage" && line["decision"] == "allow");
    assert_eq!(pushed.unwrap()["principal"], session);
    let assumed = lines.iter().find(|line| line["action"] == "sts:AssumeRoleWithWebIdentity").unwrap();
    assert_eq!(assumed["userId"], format!("{name}:berth:repo:team/app:ref:main"));

    // Whoever is trusted no longer has no session any more.
    std::fs::remove_file(dir.join("oidcProviders/ci.json")).unwrap();
    eventually("the session has ended", || {
        try_run(with_session(&server, credentials).args(["sts", "get-caller-identity"]))
            .is_err()
            .then_some(())
    });
}

#[test]
fn a_user_of_another_account_pulls_by_the_policy_of_a_repository() {
    let engine = Engine::shared();
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    files.user_of("accounts/111122223333/users", "guest", GUEST, &json!([
        {"Effect": "Allow", "Action": ["ecr:GetAuthorizationToken", "ecr:Batch*", "ecr:Get*"], "Resource": "*"},
    ]));
    files.write(
        "repositories/team/app.json",
        &json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::111122223333:user/guest"},
            "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        }}),
    );
    let server = builder.start();
    let (image, closed) = (server.image("team/app:1"), server.image("team/closed:1"));
    engine.build_busybox(&image, &[("/guest", b"x")]);
    run(engine.docker().args(["tag", &image, &closed]));
    for image in [&image, &closed] {
        run(server.docker(engine).args(["push", image]));
        run(engine.docker().args(["rmi", image]));
    }
    eventually("the files are in effect", || {
        try_run(server.aws_command_as(GUEST, SECRET).args(["sts", "get-caller-identity"])).ok()
    });
    let guest = || server.docker_as(engine, GUEST, SECRET);
    run(guest().args(["pull", &image]));
    // Its own account allows it, the repository does not; and here it pulls and does not push.
    assert!(try_run(guest().args(["pull", &closed])).is_err());
    assert!(try_run(guest().args(["push", &image])).is_err());
    run(engine.docker().args(["rmi", &image]));
}

#[test]
fn a_boundary_caps_an_administrator() {
    let engine = Engine::shared();
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    files.user("root-ish", ADMIN, &json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}]));
    let path = dir.join("users/root-ish.json");
    let mut user: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    user["permissionsBoundary"] = "BerthPullOnly".into();
    files.write("users/root-ish.json", &user);
    let server = builder.start();
    let image = server.image("team/app:1");
    engine.build_busybox(&image, &[("/bounded", b"x")]);
    run(server.docker(engine).args(["push", &image]));
    eventually("the files are in effect", || {
        try_run(server.aws_command_as(ADMIN, SECRET).args(["sts", "get-caller-identity"])).ok()
    });
    let bounded = || server.docker_as(engine, ADMIN, SECRET);
    run(bounded().args(["pull", &image]));
    assert!(try_run(bounded().args(["push", &image])).is_err());
    let delete = ["ecr", "delete-repository", "--force", "--repository-name", "team/app"];
    let refused = try_run(server.aws_command_as(ADMIN, SECRET).args(delete)).unwrap_err();
    assert!(refused.contains("no permissions boundary allows the ecr:DeleteRepository action"), "{refused}");
    let refused = try_run(server.aws_command_as(ADMIN, SECRET).args(["iam", "list-users"])).unwrap_err();
    assert!(refused.contains("AccessDenied"), "{refused}");
    run(engine.docker().args(["rmi", &image]));
}

/// In each generation of 60 files every repository is open, or every one is closed.
#[test]
fn a_checkout_of_sixty_files_is_seen_whole_or_not_at_all() {
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&dir).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(args);
        run(&mut command)
    };
    git(&["init", "--quiet", "--initial-branch", "open"]);
    let write = |effect: &str| {
        for number in 0..60 {
            files.write(
                &format!("repositories/team/r{number}.json"),
                &json!({
                    "Version": "2012-10-17",
                    "Statement": {"Effect": effect, "Principal": "*", "Action": "ecr:ListImages"},
                }),
            );
        }
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--message", effect]);
    };
    write("Allow");
    git(&["switch", "--quiet", "--create", "closed"]);
    write("Deny");
    let server = builder.start();
    for number in [0, 59] {
        server.http().push_blob(&format!("team/r{number}"), b"content");
    }
    let strangers = server.anonymous();
    let (first, last) = ("/v2/team/r0/tags/list", "/v2/team/r59/tags/list");
    let open = |path: &str| strangers.get(path).status != 401 && strangers.get(path).status != 403;

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Whoever asks for one, the other and the first again sees a change in between, or none: with the first
        // the same before and after, the other is too.
        let watcher = scope.spawn(|| {
            let mut seen = 0;
            while !stop.load(Ordering::Relaxed) {
                for (one, other) in [(first, last), (last, first)] {
                    let (before, between, after) = (open(one), open(other), open(one));
                    assert!(before != after || between == before, "half of a checkout was in effect");
                    seen += 1;
                }
            }
            seen
        });
        for round in 0..6 {
            let branch = if round % 2 == 0 { "open" } else { "closed" };
            git(&["checkout", "--quiet", branch]);
            eventually(branch, || (open(first) == (branch == "open")).then_some(()));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(watcher.join().unwrap() > 10);
    });
}

#[test]
fn a_secret_in_a_file_is_sealed() {
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    let server = builder.start();
    let sealed = run_with_input(&mut server.berth(["secret", "seal"]), SECRET.as_bytes());
    let sealed = sealed.trim();
    assert!(sealed.starts_with("berth-sealed:") && !sealed.contains(SECRET), "{sealed}");
    files.write(
        "users/robot.json",
        &json!({
            "accessKeys": [{"accessKeyId": "AKIAROBOT0000000", "sealedSecret": sealed}],
            "policies": ["BerthPullOnly"],
        }),
    );
    eventually("the key works", || {
        try_run(server.aws_command_as("AKIAROBOT0000000", SECRET).args(["sts", "get-caller-identity"])).ok()
    });
}
