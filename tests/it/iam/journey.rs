//! From nothing to a user who pushes, and back, with each of the clients.

use serde_json::json;
use test_support::{Server, eventually, try_run};

use super::{boto3, document, iam, try_iam};
use crate::at_rest::lies_nowhere;
use crate::policy_files::Files;

#[test]
fn boto3_finds_every_operation_as_it_expects_it() {
    let server = Server::start();
    assert_eq!(boto3(&server, include_str!("journey.py")), "all done");
}

#[test]
fn a_user_of_the_cli_may_do_what_it_was_given_and_what_files_own_stays() {
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    let may = json!([{"Effect": "Allow", "Action": "ecr:ListImages", "Resource": "*"}]);
    files.user("robot", "AKIAROBOT0000000", &may);
    let mut server = builder.start();
    server.http().push_blob("app", b"content");

    iam(&server, ["create-user", "--user-name", "alice"]);
    let may = document("Allow", "ecr:DescribeRepositories", "*");
    iam(
        &server,
        ["put-user-policy", "--user-name", "alice", "--policy-name", "see", "--policy-document", &may],
    );
    let key = iam(&server, ["create-access-key", "--user-name", "alice"]);
    let (id, secret) = (&key["AccessKey"]["AccessKeyId"], &key["AccessKey"]["SecretAccessKey"]);
    let alice = |server: &Server, args: &[&str]| {
        try_run(server.aws_command_as(id.as_str().unwrap(), secret.as_str().unwrap()).args(args))
    };
    alice(&server, &["ecr", "describe-repositories"]).unwrap();
    let refused = alice(&server, &["ecr", "list-images", "--repository-name", "app"]).unwrap_err();
    assert!(refused.contains("AccessDeniedException"), "{refused}");
    let refused = alice(&server, &["iam", "create-user", "--user-name", "bob"]).unwrap_err();
    let words = "(AccessDenied) when calling the CreateUser operation: User: arn:aws:iam::000000000000:user/alice is \
                 not authorized to perform: iam:CreateUser on resource: user bob";
    assert!(refused.contains(words), "{refused}");

    eventually("the files are in effect", || try_iam(&server, ["get-user", "--user-name", "robot"]).ok());
    let refused = try_iam(&server, ["create-access-key", "--user-name", "robot"]).unwrap_err();
    assert!(refused.contains("(UnmodifiableEntity)") && refused.contains("users/robot.json"), "{refused}");

    server.stop();
    lies_nowhere(&server, secret.as_str().unwrap().as_bytes());
    server.start_again();
    iam(&server, ["delete-access-key", "--user-name", "alice", "--access-key-id", id.as_str().unwrap()]);
    let refused = alice(&server, &["ecr", "describe-repositories"]).unwrap_err();
    assert!(refused.contains("InvalidSignatureException"), "{refused}");
}
