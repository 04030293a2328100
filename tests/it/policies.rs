//! Who may do what, from files to the audit line, with the clients that feel it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::policy_files::{Files, SECRET};
use serde_json::{Value, json};
use test_support::{Engine, Http, Server, aws, eventually, eventually_within, run, sha256, try_run};

const ALICE: &str = "AKIAALICE0000000";
const MALLORY: &str = "AKIAMALLORY00000";

/// A server with alice, who may do everything with `team/app`, and mallory, who may do everything but touch it.
fn server_with_users() -> Server {
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    let log_in = json!({"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"});
    files.user("alice", ALICE, &json!([
        log_in,
        {"Sid": "TeamAppOnly", "Effect": "Allow", "Action": "ecr:*", "Resource": "arn:aws:ecr:*:*:repository/team/app"},
    ]));
    files.user("mallory", MALLORY, &json!([
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Sid": "HandsOffTeamApp", "Effect": "Deny", "Action": "ecr:*", "Resource": "arn:aws:ecr:*:*:repository/team/app"},
    ]));
    let server = builder.start();
    eventually("the files are in effect", || {
        try_run(server.aws_command_as(ALICE, SECRET).args(["sts", "get-caller-identity"])).ok()
    });
    server
}

fn audit(server: &Server) -> Vec<Value> {
    let text = std::fs::read_to_string(server.data().join("audit.log")).unwrap();
    // The last one may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_denied_user_neither_pulls_nor_pushes_and_an_allowed_one_does() {
    let (server, engine) = (server_with_users(), Engine::shared());
    let image = server.image("team/app:1");
    let other = server.image("team/other:1");
    engine.build_busybox(&image, &[("/policies", b"x")]);
    run(engine.docker().args(["tag", &image, &other]));

    run(server.docker_as(engine, ALICE, SECRET).args(["push", &image]));
    run(server.docker_as(engine, ALICE, SECRET).args(["pull", &image]));
    let refused = try_run(server.docker_as(engine, ALICE, SECRET).args(["push", &other])).unwrap_err();
    assert!(refused.contains("denied") || refused.contains("not authorized"), "{refused}");
    let mallory = || server.docker_as(engine, MALLORY, SECRET);
    for action in ["push", "pull"] {
        let refused = try_run(mallory().args([action, &image])).unwrap_err();
        assert!(refused.contains("denied") || refused.contains("not authorized"), "{action}: {refused}");
    }
    run(mallory().args(["push", &other]));
    run(engine.docker().args(["rmi", &image, &other]));

    let dir = tempfile::tempdir().unwrap();
    let credentials = |key: &str| format!("{key}:{SECRET}");
    let copy = |key: &str| {
        let mut command = Command::new("skopeo");
        command.args([
            "copy",
            "--src-tls-verify=false",
            "--src-creds",
            &credentials(key),
            &format!("docker://{image}"),
        ]);
        command.arg(format!("dir:{}", dir.path().join(key).display()));
        command
    };
    run(&mut copy(ALICE));
    assert!(try_run(&mut copy(MALLORY)).is_err());
    for program in ["podman", "buildah"] {
        let mut pull = Command::new(program);
        pull.arg("--root").arg(dir.path().join("root")).arg("--runroot").arg(dir.path().join("run"));
        pull.args([
            "--storage-driver",
            "vfs",
            "pull",
            "--tls-verify=false",
            "--creds",
            &credentials(MALLORY),
            &image,
        ]);
        assert!(try_run(&mut pull).is_err(), "{program}");
    }
    let error = try_run(server.aws_command_as(MALLORY, SECRET).args([
        "ecr",
        "list-images",
        "--repository-name",
        "team/app",
    ]))
    .unwrap_err();
    assert!(error.contains("AccessDeniedException") && error.contains("explicit deny"), "{error}");

    let lines = eventually("the audit line of the last request", || {
        let lines = audit(&server);
        lines.iter().any(|line| line["action"] == "ecr:ListImages").then_some(lines)
    });
    let of = |key: &str, decision: &str| {
        lines
            .iter()
            .find(|line| {
                line["accessKeyId"] == key
                    && line["decision"] == decision
                    && line["action"] == "ecr:BatchGetImage"
            })
            .unwrap()
            .clone()
    };
    assert_eq!(of(MALLORY, "deny")["sid"], "HandsOffTeamApp");
    assert_eq!(of(ALICE, "allow")["sid"], "TeamAppOnly");
    assert!(lines.iter().all(|line| !line.to_string().contains(SECRET)));
}

#[test]
fn edits_are_live_within_a_second_and_errors_change_nothing() {
    let server = server_with_users();
    let http = server.anonymous().basic(ALICE, SECRET);
    http.push_blob("team/app", b"content");
    let path = format!("/v2/team/app/blobs/sha256:{}", sha256(b"content"));
    let dir = server.data().join("policies");
    let user = dir.join("users/alice.json");
    let good = std::fs::read_to_string(&user).unwrap();

    std::fs::write(&user, good.replace("\"Allow\"", "\"Alow\"")).unwrap();
    eventually("the error is told", || server.log().contains("is not in effect").then_some(()));
    assert_eq!(http.get(&path).status, 200, "the last good set stays");
    let printed = try_run(&mut server.berth(["policy", "check"])).unwrap_err();
    assert!(printed.contains("Usage"), "{printed}");
    let mut check = Command::new(server.berth([]).get_program());
    let printed = try_run(check.args(["policy", "check"]).arg(&dir)).unwrap_err();
    assert!(printed.contains("users/alice.json:1:"), "{printed}");

    std::fs::write(
        &user,
        good.replace("TeamAppOnly\",\"Effect\":\"Allow\"", "TeamAppOnly\",\"Effect\":\"Deny\"").replace(
            "\"Effect\":\"Allow\",\"Resource\":\"arn:aws:ecr:*:*:repository/team/app\"",
            "\"Effect\":\"Deny\",\"Resource\":\"arn:aws:ecr:*:*:repository/team/app\"",
        ),
    )
    .unwrap();
    assert_ne!(std::fs::read_to_string(&user).unwrap(), good);
    // An edit that comes into effect in the midst of an answer breaks it off.
    let answered =
        |status: u16| http.try_get(&path).is_some_and(|answer| answer.status == status).then_some(());
    eventually("the edit is in effect", || answered(403));

    std::fs::remove_file(&user).unwrap();
    eventually("the user is gone", || answered(401));

    // An edit is first seen at most 150 ms after it was made, but for what the looks themselves were late.
    let log = server.log();
    let published: Vec<&str> = log.lines().filter(|line| line.contains("policy files published")).collect();
    assert!(published.len() >= 3, "{log}");
    for line in published {
        let (settled_ms, late_ms) = (field(line, "settled_ms"), field(line, "late_ms"));
        assert!(settled_ms >= 300 && settled_ms + 150 <= 1000 + late_ms, "{line}");
    }
}

/// A number of a line of the server's log.
fn field(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {line}"));
    rest.split(|character: char| !character.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn what_a_check_says_is_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let berth = || Command::new(test_support::binary());
    let gone = dir.path().join("gone");
    let printed = try_run(berth().args(["policy", "check"]).arg(&gone)).unwrap_err();
    assert!(
        printed.contains(&format!("{}: error: there is no such directory\n1 error\n", gone.display())),
        "{printed}"
    );

    let files = Files::new(dir.path());
    let wide = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    let narrow = json!({"Effect": "Allow", "Action": "ecr:PutImage", "Resource": "*"});
    files.write("policies/p.json", &json!({"Version": "2012-10-17", "Statement": [wide, narrow]}));
    let printed = run(berth().args(["policy", "check"]).arg(dir.path()));
    assert!(printed.contains("/policies/p.json:1:25: warning: this grants administration"), "{printed}");
    assert!(printed.contains("1 policy, 0 repository policies; 2 warnings"), "{printed}");
    let printed = run(berth().args(["policy", "check", "--output", "json"]).arg(dir.path()));
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&printed["valid"], printed["findings"].as_array().unwrap().len()), (&json!(true), 2));
    assert_eq!(printed["findings"][1]["severity"], "warning");
    assert_eq!(printed["findings"][1]["file"], "policies/p.json");
}

#[test]
fn the_examples_are_checked_simulated_and_applied() {
    let server = Server::start();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/examples");
    let berth = || Command::new(server.berth([]).get_program());
    assert!(run(berth().args(["policy", "check"]).arg(&examples)).contains("valid"));
    let simulate = |resource: &str| {
        let mut command = berth();
        command.args(["policy", "simulate", "--dir"]).arg(&examples);
        command.args(["--principal", "user/alice", "--action", "ecr:PutImage", "--resource", resource]);
        try_run(&mut command)
    };
    assert!(simulate("repository/web/app").unwrap().contains("PushToOwnTeam"));
    assert!(simulate("repository/db/app").is_err());
    let mut apply = server.berth(["policy", "apply"]);
    assert!(run(apply.arg(&examples)).contains("generation"));
}

#[test]
fn everybody_who_exists_is_asked_about_on_a_server() {
    let server = server_with_users();
    let iam = |args: &[&str]| aws(&server, [&["iam"], args].concat()).unwrap();
    iam(&["create-user", "--user-name", "carol"]);
    let push =
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecr:PutImage","Resource":"*"}}"#;
    iam(&["put-user-policy", "--user-name", "carol", "--policy-name", "push", "--policy-document", push]);
    aws(&server, ["ecr", "create-repository", "--repository-name", "team/app"]).unwrap();
    let open = r#"{"Version":"2012-10-17","Statement":{"Sid":"Open","Effect":"Allow","Principal":"*","Action":"ecr:BatchGetImage"}}"#;
    let set =
        ["ecr", "set-repository-policy", "--force", "--repository-name", "team/app", "--policy-text", open];
    aws(&server, set).unwrap();
    let who_can = |action: &str| run(&mut server.berth(["policy", "who-can", action, "repository/team/app"]));
    let pushers = who_can("ecr:PutImage");
    assert!(pushers.contains("user/carol") && pushers.contains("user/alice"), "{pushers}");
    assert!(who_can("ecr:BatchGetImage").contains("anonymous"), "the repository's own policy counts");

    let dir = server.data().join("policies");
    let copy = tempfile::tempdir().unwrap();
    run(Command::new("cp").arg("-a").arg(dir.join(".")).arg(copy.path()));
    let deny = json!({"Version": "2012-10-17", "Statement":
        {"Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::000000000000:user/carol"}, "Action": "ecr:PutImage"}});
    std::fs::create_dir_all(copy.path().join("repositories/team")).unwrap();
    std::fs::write(copy.path().join("repositories/team/app.json"), deny.to_string()).unwrap();
    let path = copy.path().to_str().unwrap().to_owned();
    let changes = run(&mut server.berth(["policy", "diff", &path]));
    assert!(changes.contains("user/carol") && changes.contains("- ecr:PutImage"), "{changes}");
    assert!(!changes.contains("user/alice"), "{changes}");
}

#[test]
fn an_assumed_role_has_its_rights_and_no_more_than_its_session_policy() {
    let server = server_with_users();
    let dir = server.data().join("policies");
    Files(&dir).write("roles/reader.json", &json!({
        "trustPolicy": {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/mallory"}, "Action": "sts:AssumeRole"}},
        "inlinePolicies": {"read": {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}}},
    }));
    server.http().push_blob("team/app", b"content");
    let assume = |key: &str, policy: &str| {
        let mut command = server.aws_command_as(key, SECRET);
        command.args([
            "sts",
            "assume-role",
            "--role-arn",
            "arn:aws:iam::000000000000:role/reader",
            "--role-session-name",
            "test",
            "--policy",
            policy,
        ]);
        try_run(&mut command).map(|text| serde_json::from_str::<Value>(&text).unwrap()["Credentials"].clone())
    };
    let narrow = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ecr:GetAuthorizationToken","ecr:ListImages"],"Resource":"*"}]}"#;
    let credentials = eventually("the role can be assumed", || assume(MALLORY, narrow).ok());
    assert!(assume(ALICE, narrow).unwrap_err().contains("AccessDenied"));
    let with_session = |args: &[&str]| {
        let mut command = server.aws_command_as(
            credentials["AccessKeyId"].as_str().unwrap(),
            credentials["SecretAccessKey"].as_str().unwrap(),
        );
        try_run(command.env("AWS_SESSION_TOKEN", credentials["SessionToken"].as_str().unwrap()).args(args))
    };
    with_session(&["ecr", "list-images", "--repository-name", "team/app"]).unwrap();
    let refused = with_session(&["ecr", "describe-images", "--repository-name", "team/app"]).unwrap_err();
    assert!(refused.contains("session policy"), "{refused}");
    let identity = with_session(&["sts", "get-caller-identity"]).unwrap();
    assert!(identity.contains("assumed-role/reader/test"), "{identity}");
}

#[test]
fn a_role_is_passed_only_by_whom_may_pass_it() {
    let server = server_with_users();
    let dir = server.data().join("policies");
    let key = "AKIADEPLOY000000";
    Files(&dir).user("deploy", key, &json!([{"Effect": "Allow", "Action": "ecs:*", "Resource": "*"}]));
    let register = |role: &str| {
        let mut command = server.aws_command_as(key, SECRET);
        command.args(["ecs", "register-task-definition", "--family", "f", "--execution-role-arn", role]);
        command.args(["--container-definitions", r#"[{"name":"a","image":"a","memory":16}]"#]);
        try_run(&mut command)
    };
    let role = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";
    let refused = eventually("the user is there", || {
        register(role).err().filter(|error| error.contains("AccessDenied"))
    });
    assert!(refused.contains("iam:PassRole"), "{refused}");
    let mut open = server.aws_command_as(key, SECRET);
    open.args([
        "ecs",
        "register-task-definition",
        "--family",
        "f",
        "--container-definitions",
        r#"[{"name":"a","image":"a","memory":16}]"#,
    ]);
    run(&mut open);
}

#[test]
fn a_task_whose_role_may_not_pull_is_refused_where_the_image_lies() {
    let engine = Engine::start();
    let mut server = Server::builder().with_agent(&engine).start();
    let image = server.image("app:1");
    engine.build_busybox(&image, &[]);
    run(server.docker(&engine).args(["push", &image]));
    let dir = server.data().join("policies");
    Files(&dir).write("roles/noPull.json", &json!({
        "trustPolicy": {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}},
        "inlinePolicies": {"login": {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"}}},
    }));
    let task_with = |family: &str, role: &str| {
        let containers =
            json!([{"name": "a", "image": image, "memory": 16, "command": ["sleep", "1000"]}]).to_string();
        let role = format!("arn:aws:iam::000000000000:role/{role}");
        eventually("the role is there", || {
            aws(
                &server,
                [
                    "ecs",
                    "register-task-definition",
                    "--family",
                    family,
                    "--execution-role-arn",
                    &role,
                    "--container-definitions",
                    &containers,
                ],
            )
            .ok()
        });
        let ran = eventually("the task is placed", || {
            let ran = aws(&server, ["ecs", "run-task", "--task-definition", family]).ok()?;
            ran["tasks"][0]["taskArn"].as_str().map(str::to_owned)
        });
        eventually_within(Duration::from_secs(60), "the task runs or is stopped", || {
            let task = aws(&server, ["ecs", "describe-tasks", "--tasks", &ran]).ok()?["tasks"][0].clone();
            matches!(task["lastStatus"].as_str(), Some("RUNNING" | "STOPPED")).then_some(task)
        })
    };
    assert_eq!(task_with("allowed", "ecsTaskExecutionRole")["lastStatus"], "RUNNING");
    let refused = task_with("refused", "noPull");
    assert_eq!(refused["lastStatus"], "STOPPED", "{refused:#}");
    let reason = refused["containers"][0]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("CannotPull"), "{refused:#}");

    // The agent's own endpoint gives nothing to whoever merely reaches it.
    let mut found_pull_endpoint = false;
    let pid = format!("pid={},", server.process().id());
    let listening = run(Command::new("ss").args(["-ltnpH"]));
    let ports = listening.lines().filter(|line| line.contains(&pid)).filter_map(|line| {
        let address = line.split_whitespace().nth(3)?;
        address.strip_prefix("127.0.0.1:")?.parse::<u16>().ok()
    });
    let others: Vec<u16> = ports.filter(|port| *port != server.port()).collect();
    assert!(!others.is_empty(), "{listening}");
    for port in others {
        let endpoint = Http::new(&format!("http://127.0.0.1:{port}"));
        let status = |http: &Http| http.get("/v2/app/manifests/1").status;
        assert!(matches!(status(&endpoint), 401 | 404), "port {port}");
        assert!(
            matches!(status(&endpoint.basic(server.access_key_id(), server.secret())), 401 | 404),
            "port {port}"
        );
        found_pull_endpoint |= endpoint.get("/v2/").status == 401;
    }
    assert!(found_pull_endpoint);
}
