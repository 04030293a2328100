//! Names and filters that would mean something to a database, a path or a log.

use super::{Client, between, encoded};
use crate::testing::{ALLOW_ALL, Fixture, trust};

const NAMES: &[&str] = &[
    "",
    "../admin",
    "a/b",
    "%2e%2e%2f",
    "a\0b",
    "a\r\nSet-Cookie: b",
    "a\u{202e}b",
    "\u{ff41}lice",
    "alice' OR '1'='1",
    "alice\"; DROP TABLE identity_users; --",
    "alice\\",
    "*",
    "${aws:username}",
];

#[tokio::test]
async fn names_of_other_letters_name_and_make_nobody() {
    let fixture = Fixture::new().await;
    fixture.user("alice", ALLOW_ALL).await;
    let admin = Client::administrator(&fixture);
    let before = admin.ask("GetAccountSummary").await;
    let trusted = encoded(&trust(r#""AWS":"*""#, "{}"));
    let document = encoded(ALLOW_ALL);
    let long = "a".repeat(200);
    for name in NAMES.iter().copied().chain([long.as_str()]) {
        let shown = encoded(name);
        for form in [
            format!("CreateUser&UserName={shown}"),
            format!("CreateGroup&GroupName={shown}"),
            format!("CreateRole&RoleName={shown}&AssumeRolePolicyDocument={trusted}"),
            format!("CreatePolicy&PolicyName={shown}&PolicyDocument={document}"),
            format!("CreateInstanceProfile&InstanceProfileName={shown}"),
            format!("PutUserPolicy&UserName=alice&PolicyName={shown}&PolicyDocument={document}"),
            format!("UpdateUser&UserName=alice&NewUserName={shown}"),
            format!("GetUser&UserName={shown}"),
            format!("DeleteUser&UserName={shown}"),
            format!("CreateAccessKey&UserName={shown}"),
        ] {
            // Of a name that is none, AWS tells no more than of one that nobody has.
            if name.is_empty() && form.starts_with("PutUserPolicy") {
                continue;
            }
            let (status, code) = admin.refused(&form).await;
            let expected = [(400, "ValidationError".to_owned()), (404, "NoSuchEntity".to_owned())];
            assert!(expected.contains(&(status, code.clone())), "{form}: {status} {code}");
        }
    }
    assert_eq!(between(&admin.ask("GetAccountSummary").await, "SummaryMap"), between(&before, "SummaryMap"));
}

#[tokio::test]
async fn filters_are_compared_and_never_interpreted() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    for (name, path) in [("one", "/a/"), ("two", "/b/"), ("three", "/a_c/")] {
        admin.ask(&format!("CreateUser&UserName={name}&Path={}", encoded(path))).await;
    }
    let listed = async |prefix: &str| {
        let body = admin.ask(&format!("ListUsers&PathPrefix={}", encoded(prefix))).await;
        let names = body.split("<UserName>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned());
        names.collect::<Vec<String>>()
    };
    assert_eq!(listed("/a").await, ["one", "three"]);
    for prefix in ["/%", "/_/", "/*", "/?/", "/a' OR '1'='1", "/a'--", "/A/", "/[ab]/", "/a\0", "/\\"] {
        assert!(listed(prefix).await.is_empty(), "{prefix:?}");
    }
    for marker in ["x", "' OR '1'='1", "%00", "AAAA", "../.."] {
        let (status, code) = admin.refused(&format!("ListUsers&Marker={}", encoded(marker))).await;
        assert_eq!((status, code.as_str()), (400, "ValidationError"), "{marker}");
    }
    for size in ["0", "-1", "1001", "1000000000000000000", "a", "1e3", ""] {
        let (status, code) = admin.refused(&format!("ListUsers&MaxItems={size}")).await;
        assert_eq!((status, code.as_str()), (400, "ValidationError"), "{size}");
    }
}
