//! Who has no key of their own: jobs of a CI system, tasks; and policy files as they change, end to end.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Engine, Server, aws, eventually, eventually_within, run, run_with_input, try_run};

use crate::issuer::Issuer;
use crate::policy_files::{Files, SECRET};

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
    // The example, for this issuer and this repository.
    for file in ["oidcProviders/github-actions.json", "roles/ci/github-actions.json"] {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/examples").join(file);
        let text = std::fs::read_to_string(example).unwrap();
        let text = text.replace("token.actions.githubusercontent.com", name);
        let text = text.replace("sts.amazonaws.com", "berth").replace("example/app", "team/app");
        files.write(file, &serde_json::from_str(&text).unwrap());
    }
    let server = builder.start();
    let assume = |subject: &str| {
        // Nothing of a stored secret is there.
        let mut command = server.aws_command_as("", "");
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command.args(["sts", "assume-role-with-web-identity", "--role-session-name", "job-7"]);
        command.args([
            "--role-arn",
            "arn:aws:iam::000000000000:role/ci/github-actions",
            "--web-identity-token",
        ]);
        try_run(command.arg(issuer.token(subject)))
    };
    let answer = eventually("the role is there", || assume("repo:team/app:ref:refs/heads/main").ok());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["SubjectFromWebIdentityToken"], "repo:team/app:ref:refs/heads/main");
    assert_eq!(answer["Audience"], "berth");
    for stranger in ["repo:team/other:ref:refs/heads/main", "repo:team/app:pull_request"] {
        let refused = assume(stranger).unwrap_err();
        assert!(refused.contains("AccessDenied"), "{refused}");
    }

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
    let session = "arn:aws:sts::000000000000:assumed-role/github-actions/job-7";
    let pushed = lines.iter().find(|line| line["action"] == "ecr:PutImage" && line["decision"] == "allow");
    assert_eq!(pushed.unwrap()["principal"], session);
    let assumed = lines.iter().find(|line| line["action"] == "sts:AssumeRoleWithWebIdentity").unwrap();
    assert_eq!(assumed["userId"], format!("{name}:berth:repo:team/app:ref:refs/heads/main"));

    // Whoever is trusted no longer has no session any more.
    std::fs::remove_file(dir.join("oidcProviders/github-actions.json")).unwrap();
    eventually("the session has ended", || {
        try_run(with_session(&server, credentials).args(["sts", "get-caller-identity"]))
            .is_err()
            .then_some(())
    });
}

#[test]
fn a_task_role_reaches_only_its_repository() {
    let engine = Engine::start();
    let builder = Server::builder().with_agent(&engine);
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    files.write(
        "roles/tasks/app.json",
        &json!({
            "trustPolicy": {"Version": "2012-10-17", "Statement": {
                "Effect": "Allow",
                "Principal": {"Service": "ecs-tasks.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"aws:SourceAccount": "000000000000"}},
            }},
            "inlinePolicies": {"push": {"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
                {"Effect": "Allow", "Action": PUSH, "Resource": "arn:aws:ecr:*:*:repository/team/own"},
            ]}},
        }),
    );
    let server = builder.start();
    let (image, own, other) =
        (server.image("app:1"), server.image("team/own:1"), server.image("team/other:1"));
    engine.build_busybox(&image, &[]);
    run(server.docker(&engine).args(["push", &image]));
    let containers = json!([{"name": "app", "image": image, "memory": 16, "command": ["sleep", "1000"]}]);
    let role = |name: &str| format!("arn:aws:iam::000000000000:role/{name}");
    eventually("the role is there", || {
        let mut register = server.aws_command();
        register.args(["ecs", "register-task-definition", "--family", "app", "--container-definitions"]);
        register.arg(containers.to_string()).args(["--execution-role-arn", &role("ecsTaskExecutionRole")]);
        try_run(register.args(["--task-role-arn", &role("tasks/app")])).ok()
    });
    let task = eventually("the task is placed", || {
        let ran = aws(&server, ["ecs", "run-task", "--task-definition", "app"]).ok()?;
        ran["tasks"][0]["taskArn"].as_str().map(str::to_owned)
    });
    let container = eventually_within(Duration::from_secs(60), "the task runs", || {
        let task = aws(&server, ["ecs", "describe-tasks", "--tasks", &task]).ok()?["tasks"][0].clone();
        assert_ne!(task["lastStatus"], "STOPPED", "{task:#}");
        let id = task["containers"][0]["runtimeId"].as_str().map(str::to_owned);
        id.filter(|_| task["lastStatus"] == "RUNNING")
    });
    // What an SDK in the container does.
    let ask = "(printf \"GET $AWS_CONTAINER_CREDENTIALS_RELATIVE_URI HTTP/1.0\\r\\nHost: 169.254.170.2\\r\\n\\r\\n\"; \
               sleep 1) | nc -w 5 169.254.170.2 80";
    let answer = run(engine.docker().args(["exec", &container, "/bin/busybox", "sh", "-c", ask]));
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut credentials: Value = serde_json::from_str(body).unwrap();
    credentials["SessionToken"] = credentials["Token"].take();

    let password = run(with_session(&server, &credentials).args(["ecr", "get-login-password"]));
    let docker = || server.docker_as(&engine, "AWS", password.trim());
    for name in [&own, &other] {
        run(engine.docker().args(["tag", &image, name]));
    }
    run(docker().args(["push", &own]));
    for refused in [["push", &other], ["pull", &image]] {
        let refused = try_run(docker().args(refused)).unwrap_err();
        assert!(refused.contains("denied") || refused.contains("not authorized"), "{refused}");
    }
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
    let open = |path: &str| !matches!(strangers.get(path).status, 401 | 403);

    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        // Who asks for one, the other and the first again has seen at most one change, since the next one waits for
        // it: with the first the same before and after, the other is too.
        let watcher = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (one, other) in [(first, last), (last, first)] {
                    let (before, between, after) = (open(one), open(other), open(one));
                    assert!(before != after || between == before, "half of a checkout was in effect");
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for round in 0..6 {
            let branch = if round % 2 == 0 { "open" } else { "closed" };
            git(&["checkout", "--quiet", branch]);
            eventually(branch, || (open(first) == (branch == "open")).then_some(()));
            let so_far = seen.load(Ordering::Relaxed);
            let looked = || watcher.is_finished() || seen.load(Ordering::Relaxed) >= so_far + 2;
            eventually("the watcher has looked", || looked().then_some(()));
        }
        stop.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
    });
}

#[test]
fn providers_are_administered_by_aws_iam() {
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    Files::new(&dir)
        .write("oidcProviders/ci.json", &json!({"url": "https://ci.example", "clientIds": ["berth"]}));
    let server = builder.start();
    let iam = |args: &[&str]| {
        let printed = try_run(server.aws_command().arg("iam").args(args))?;
        Ok::<Value, String>(serde_json::from_str(&printed).unwrap_or_default())
    };
    let of = "--open-id-connect-provider-arn";
    let made = iam(&[
        "create-open-id-connect-provider",
        "--url",
        "https://token.example/path",
        "--client-id-list",
        "one",
        "two",
        "--thumbprint-list",
        &"AB".repeat(20),
        "--tags",
        "Key=team,Value=red",
    ])
    .unwrap();
    let arn = "arn:aws:iam::000000000000:oidc-provider/token.example/path";
    assert_eq!(made["OpenIDConnectProviderArn"], arn);
    iam(&["add-client-id-to-open-id-connect-provider", of, arn, "--client-id", "three"]).unwrap();
    iam(&["remove-client-id-from-open-id-connect-provider", of, arn, "--client-id", "one"]).unwrap();
    let thumbprint = "cd".repeat(20);
    let update = ["update-open-id-connect-provider-thumbprint", of, arn, "--thumbprint-list", &thumbprint];
    iam(&update).unwrap();
    let known = iam(&["get-open-id-connect-provider", of, arn]).unwrap();
    assert_eq!(known["Url"], "token.example/path");
    assert_eq!(known["ClientIDList"], json!(["two", "three"]));
    assert_eq!(known["ThumbprintList"], json!([thumbprint]));
    assert_eq!(known["Tags"], json!([{"Key": "team", "Value": "red"}]));
    let twice = iam(&["create-open-id-connect-provider", "--url", "https://token.example/path"]).unwrap_err();
    assert!(twice.contains("EntityAlreadyExists"), "{twice}");

    let of_files = "arn:aws:iam::000000000000:oidc-provider/ci.example";
    eventually("the files are in effect", || iam(&["get-open-id-connect-provider", of, of_files]).ok());
    let listed = iam(&["list-open-id-connect-providers"]).unwrap();
    assert_eq!(listed["OpenIDConnectProviderList"], json!([{"Arn": of_files}, {"Arn": arn}]));
    let refused = iam(&["delete-open-id-connect-provider", of, of_files]).unwrap_err();
    assert!(refused.contains("UnmodifiableEntity") && refused.contains("oidcProviders/"), "{refused}");
    iam(&["delete-open-id-connect-provider", of, arn]).unwrap();
    let gone = iam(&["get-open-id-connect-provider", of, arn]).unwrap_err();
    assert!(gone.contains("NoSuchEntity"), "{gone}");
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
