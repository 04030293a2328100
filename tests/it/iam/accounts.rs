//! Users of another account: what they may do is what both sides allow.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use test_support::{Engine, Server, aws, eventually, run, try_run};

use crate::policy_files::{Files, SECRET};

const BOB: &str = "AKIABOB000000000";

#[test]
fn a_user_of_another_account_pulls_through_the_policy_of_a_repository() {
    let engine = Engine::shared();
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    let secret = builder.data().join("bob.secret");
    std::fs::create_dir_all(builder.data()).unwrap();
    std::fs::write(&secret, SECRET).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    files.write(
        "accounts/111122223333/users/bob.json",
        &json!({
            "accessKeys": [{"accessKeyId": BOB, "secretFile": secret}],
            "inlinePolicies": {"pull": {"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"},
            ]}},
        }),
    );
    let server = builder.start();
    let (image, other) = (server.image("team/app:1"), server.image("team/other:1"));
    engine.build_busybox(&image, &[("/accounts", b"x")]);
    run(engine.docker().args(["tag", &image, &other]));
    for image in [&image, &other] {
        run(server.docker(engine).args(["push", image]));
    }
    run(engine.docker().args(["rmi", &image, &other]));
    let who = || {
        let mut command = server.aws_command_as(BOB, SECRET);
        try_run(command.args(["sts", "get-caller-identity", "--query", "Arn", "--output", "text"])).ok()
    };
    assert_eq!(eventually("the files are in effect", who), "arn:aws:iam::111122223333:user/bob");

    // The repository's own policy has to name him, too.
    let bob = || server.docker_as(engine, BOB, SECRET);
    assert!(try_run(bob().args(["pull", &image])).is_err());
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "Bob", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/bob"},
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"],
    }]})
    .to_string();
    aws(&server, ["ecr", "set-repository-policy", "--repository-name", "team/app", "--policy-text", &policy])
        .unwrap();
    run(bob().args(["pull", &image]));
    for refused in [["pull", &other], ["push", &image]] {
        let refused = try_run(bob().args(refused)).unwrap_err();
        assert!(
            refused.contains("denied") || refused.contains("not authorized") || refused.contains("not found"),
            "{refused}"
        );
    }
    run(engine.docker().args(["rmi", &image]));
    let refused = try_run(server.aws_command_as(BOB, SECRET).args(["iam", "list-users"])).unwrap_err();
    assert!(refused.contains("(AccessDenied)"), "{refused}");
    let listed = aws(&server, ["iam", "list-users", "--query", "Users[].UserName"]).unwrap();
    assert_eq!(listed, json!(["administrator"]), "the other account's are not ours");
}
