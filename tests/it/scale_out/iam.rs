//! What is changed over the API of one server counts on the other within a second.

use std::time::{Duration, Instant};

use test_support::{Server, eventually_within};

use super::installation::{ACCESS_KEY_ID, Installation, SECRET};
use crate::signed::{ECR, Signer};

/// As revocations over files are timed: a second, and as much again for a busy machine.
const WITHIN: Duration = Duration::from_secs(2);

fn administrator(server: &Server) -> Signer {
    Signer::new(server.endpoint(), Some((ACCESS_KEY_ID, SECRET)))
}

fn ask(administrator: &Signer, form: &str) -> String {
    let answer = administrator.query("iam", "2010-05-08", form);
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200, "{form}: {body}");
    body
}

fn between<'a>(text: &'a str, name: &str) -> &'a str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split_once(&open).and_then(|(_, rest)| rest.split_once(&close)).unwrap().0
}

#[test]
fn keys_and_policies_of_the_api_count_on_every_server() {
    let installation = Installation::new();
    let (here, there) = (installation.builder().start(), installation.builder().start());
    let admin = administrator(&here);
    ask(&admin, "CreateUser&UserName=alice");
    let key = ask(&admin, "CreateAccessKey&UserName=alice");
    let (id, secret) = (between(&key, "AccessKeyId").to_owned(), between(&key, "SecretAccessKey").to_owned());
    let alice = Signer::new(there.endpoint(), Some((&id, &secret)));
    let state = || {
        let answer = alice.call(&ECR, "DescribeRepositories", "{}");
        match answer.status {
            200 => "allowed".to_owned(),
            _ => answer.json()["__type"].as_str().unwrap().to_owned(),
        }
    };
    let becomes = |expected: &str, what: &str| {
        let changed = Instant::now();
        eventually_within(WITHIN, what, || (state() == expected).then_some(()));
        println!("{what} after {} ms", changed.elapsed().as_millis());
    };
    becomes("AccessDeniedException", "the key is known on the other server");
    ask(&admin, "AttachUserPolicy&UserName=alice&PolicyArn=arn:aws:iam::aws:policy/BerthReadOnly");
    becomes("allowed", "the policy counts on the other server");
    ask(&admin, "DetachUserPolicy&UserName=alice&PolicyArn=arn:aws:iam::aws:policy/BerthReadOnly");
    becomes("AccessDeniedException", "it counts no longer");
    ask(&admin, &format!("UpdateAccessKey&UserName=alice&AccessKeyId={id}&Status=Inactive"));
    becomes("UnrecognizedClientException", "the key is disabled");
    ask(&admin, &format!("UpdateAccessKey&UserName=alice&AccessKeyId={id}&Status=Active"));
    becomes("AccessDeniedException", "the key is enabled");
    // What one server saw of a key, the other tells once it is written down.
    let used = ask(&admin, &format!("GetAccessKeyLastUsed&AccessKeyId={id}"));
    assert_eq!(between(&used, "UserName"), "alice");
    ask(&admin, &format!("DeleteAccessKey&UserName=alice&AccessKeyId={id}"));
    becomes("InvalidSignatureException", "the key is gone");
    ask(&admin, "DeleteUser&UserName=alice");
}
