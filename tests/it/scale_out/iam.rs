//! What is changed over the API of one server counts on the other within a second.

use std::time::{Duration, Instant};

use test_support::eventually_within;

use super::installation::{Installation, between, iam, signer};
use crate::signed::{ECR, Signer};

/// As revocations over files are timed: a second, and as much again for a busy machine.
const WITHIN: Duration = Duration::from_secs(2);

#[test]
fn keys_and_policies_of_the_api_count_on_every_server() {
    let installation = Installation::new();
    let (here, there) = (installation.builder().start(), installation.builder().start());
    let admin = signer(&here);
    iam(&admin, "CreateUser&UserName=alice");
    let key = iam(&admin, "CreateAccessKey&UserName=alice");
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
    iam(&admin, "AttachUserPolicy&UserName=alice&PolicyArn=arn:aws:iam::aws:policy/BerthReadOnly");
    becomes("allowed", "the policy counts on the other server");
    iam(&admin, "DetachUserPolicy&UserName=alice&PolicyArn=arn:aws:iam::aws:policy/BerthReadOnly");
    becomes("AccessDeniedException", "it counts no longer");
    iam(&admin, &format!("UpdateAccessKey&UserName=alice&AccessKeyId={id}&Status=Inactive"));
    becomes("UnrecognizedClientException", "the key is disabled");
    iam(&admin, &format!("UpdateAccessKey&UserName=alice&AccessKeyId={id}&Status=Active"));
    becomes("AccessDeniedException", "the key is enabled");
    // What one server saw of a key, the other tells once it is written down.
    let used = iam(&admin, &format!("GetAccessKeyLastUsed&AccessKeyId={id}"));
    assert_eq!(between(&used, "UserName"), "alice");
    iam(&admin, &format!("DeleteAccessKey&UserName=alice&AccessKeyId={id}"));
    becomes("InvalidSignatureException", "the key is gone");
    iam(&admin, "DeleteUser&UserName=alice");
}
