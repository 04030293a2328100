//! What was taken away is gone at the next request, whatever credential was made before.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use test_support::{Http, Server, eventually, eventually_within};

use crate::policy_files::{Files, SECRET};
use crate::signed::{BERTH, ECR, Signer};

const CAROL: &str = "AKIACAROL0000000";
/// Edits of files count within a second, and machines that test are slow.
const SOON: Duration = Duration::from_secs(10);

/// Carol's credentials of every kind.
struct Carol {
    http: Vec<(&'static str, Http)>,
    signer: Signer,
}

impl Carol {
    fn of(server: &Server) -> Self {
        let password = server.anonymous().basic(CAROL, SECRET);
        eventually("carol may log in", || (password.get("/v2/").status == 200).then_some(()));
        let token =
            password.get("/token?scope=repository:app:pull").json()["token"].as_str().unwrap().to_owned();
        let signer = Signer::new(server.endpoint(), Some((CAROL, SECRET)));
        let login = signer.call(&ECR, "GetAuthorizationToken", "{}").json();
        let login = login["authorizationData"][0]["authorizationToken"].as_str().unwrap().to_owned();
        let login = String::from_utf8(BASE64_STANDARD.decode(login).unwrap()).unwrap();
        let ecr = server.anonymous().basic("AWS", login.strip_prefix("AWS:").unwrap());
        let bearer = server.anonymous().bearer(&token);
        Self { http: vec![("password", password), ("bearer token", bearer), ("ECR token", ecr)], signer }
    }

    /// The status of a pull with each credential.
    fn pulls(&self) -> Vec<u16> {
        self.http.iter().map(|(_, http)| http.get("/v2/app/tags/list").status).collect()
    }

    fn lists(&self) -> Value {
        self.signer.call(&ECR, "ListImages", r#"{"repositoryName":"app"}"#).json()["__type"].clone()
    }
}

#[test]
fn a_group_that_is_left_and_a_key_that_is_deleted_count_no_more() {
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    let statements = json!([
        {"Effect": "Allow", "Action": "ecr:*", "Resource": "arn:aws:ecr:*:*:repository/app"},
    ]);
    files.write(
        "groups/pullers.json",
        &json!({"inlinePolicies": {"own": {"Version": "2012-10-17", "Statement": statements}}}),
    );
    let log_in = json!([{"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"}]);
    files.user("carol", CAROL, &log_in);
    let path = dir.join("users/carol.json");
    let alone: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut member = alone.clone();
    member["groups"] = json!(["pullers"]);
    files.write("users/carol.json", &member);
    let server = builder.start();
    server.http().push_blob("app", b"{}");
    let carol = Carol::of(&server);
    assert_eq!((carol.pulls(), carol.lists()), (vec![200; 3], Value::Null));

    files.write("users/carol.json", &alone);
    eventually_within(SOON, "carol has left her group", || (carol.pulls() == [403; 3]).then_some(()));
    assert_eq!(carol.lists(), "AccessDeniedException");
    files.write("users/carol.json", &member);
    eventually_within(SOON, "carol is back", || (carol.pulls() == [200; 3]).then_some(()));

    let mut without = member.clone();
    without["accessKeys"] = json!([]);
    files.write("users/carol.json", &without);
    eventually_within(SOON, "carol's key is gone", || (carol.pulls() == [401; 3]).then_some(()));
    assert_eq!(carol.lists(), "InvalidSignatureException");

    // Whoever gets the name and the key again gets none of the old tokens.
    let generation = || {
        let answer = Signer::administrator(&server).call(&BERTH, "DescribePolicyGeneration", "{}");
        answer.json()["generation"].as_i64().unwrap()
    };
    let before = generation();
    std::fs::remove_file(&path).unwrap();
    eventually_within(SOON, "carol is gone", || (generation() > before).then_some(()));
    files.write("users/carol.json", &member);
    eventually_within(SOON, "another carol is there", || (carol.pulls()[0] == 200).then_some(()));
    assert_eq!(carol.pulls(), [200, 401, 401]);
}
