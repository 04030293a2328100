use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use registry_aws::Credentials;

use super::{Generation, PublishError};
use crate::files::tests::{directory, write};
use crate::files::{check, check_texts};
use crate::testing::{ACCOUNT, Fixture, policy, repository, signing};

const SECRET: &str = "0123456789012345678901234567890123456789";
const ALICE_KEY: &str = "AKIAALICE0000000";

fn secret(folder: &Path, text: &str) -> String {
    let path = folder.join("secret-of-alice");
    fs::write(&path, format!("{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn alice(secret_file: &str, more: &str) -> String {
    format!(r#"{{"accessKeys": [{{"accessKeyId": "{ALICE_KEY}", "secretFile": "{secret_file}"}}], {more}}}"#)
}

async fn publish(fixture: &Fixture, directory: &Path) -> Result<Generation, PublishError> {
    let files = check(directory).unwrap();
    fixture.identity.publish(Arc::new(files), "test").await
}

fn credentials(secret: &str) -> Credentials {
    Credentials::new(ALICE_KEY, secret)
}

#[tokio::test]
async fn what_files_say_is_in_effect_when_publish_returns() {
    let fixture = Fixture::new().await;
    let user = alice(&secret(fixture.folder.path(), SECRET), r#""groups": ["dev"], "tags": {"Team": "red"}"#);
    let folder = directory(&[
        ("users/alice.json", &user),
        ("groups/dev.json", r#"{"policies": ["push"]}"#),
        (
            "policies/push.json",
            &policy("Allow", "ecr:PutImage", "arn:aws:ecr:*:*:repository/${aws:PrincipalTag/Team}/*"),
        ),
    ]);
    let first = publish(&fixture, folder.path()).await.unwrap();
    assert_eq!(first, Generation { number: 1, changed: true });
    let caller = fixture.authenticate(&credentials(SECRET)).await.unwrap();
    assert!(fixture.allowed(&caller, "ecr:PutImage", &repository("red/app")));
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("blue/app")));

    // The same again is no new generation.
    let again = publish(&fixture, folder.path()).await.unwrap();
    assert_eq!(again, Generation { number: 1, changed: false });

    // A change acts on the caller that is already signed in.
    write(folder.path(), "groups/dev.json", "{}");
    assert_eq!(publish(&fixture, folder.path()).await.unwrap().number, 2);
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("red/app")));
    let published = check_texts(&fixture.identity.published_texts().await.unwrap().unwrap()).unwrap();
    assert_eq!(published.groups[0].attached, [""; 0]);
}

#[tokio::test]
async fn another_server_loads_the_generation() {
    let fixture = Fixture::new().await;
    let other = fixture.another_server().await;
    let user = alice(&secret(fixture.folder.path(), SECRET), r#""policies": ["BerthPullOnly"]"#);
    let folder = directory(&[("users/alice.json", &user)]);
    publish(&fixture, folder.path()).await.unwrap();
    other.refresh().await.unwrap();
    assert_eq!(other.security_generation(), fixture.identity.security_generation());
}

#[tokio::test]
async fn what_is_gone_from_the_files_is_gone() {
    let fixture = Fixture::new().await;
    let user = alice(&secret(fixture.folder.path(), SECRET), r#""inlinePolicies": {}"#);
    let folder = directory(&[
        ("users/alice.json", &user),
        ("groups/dev.json", "{}"),
        ("policies/p.json", &policy("Allow", "*", "*")),
        (
            "repositories/app.json",
            r#"{"Statement": {"Effect": "Allow", "Action": "ecr:BatchGetImage", "Principal": "*"}}"#,
        ),
    ]);
    publish(&fixture, folder.path()).await.unwrap();
    let anonymous = fixture.identity.anonymous();
    assert!(fixture.allowed(&anonymous, "ecr:BatchGetImage", &repository("app")));
    for file in ["users/alice.json", "groups/dev.json", "policies/p.json", "repositories/app.json"] {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    publish(&fixture, folder.path()).await.unwrap();
    assert!(fixture.authenticate(&credentials(SECRET)).await.is_err());
    assert!(!fixture.allowed(&anonymous, "ecr:BatchGetImage", &repository("app")));
    // What the API made stays.
    fixture.authenticate(&signing(&fixture.administrator)).await.unwrap();
}

#[tokio::test]
async fn a_key_that_comes_back_does_not_revive_what_was_made_with_it() {
    let fixture = Fixture::new().await;
    let path = secret(fixture.folder.path(), SECRET);
    let folder = directory(&[("users/alice.json", &alice(&path, r#""policies": ["AdministratorAccess"]"#))]);
    publish(&fixture, folder.path()).await.unwrap();
    let before = fixture.authenticate(&credentials(SECRET)).await.unwrap();
    write(folder.path(), "users/alice.json", r#"{"policies": ["AdministratorAccess"]}"#);
    publish(&fixture, folder.path()).await.unwrap();
    assert!(!fixture.allowed(&before, "ecr:PutImage", &repository("app")));
    write(folder.path(), "users/alice.json", &alice(&path, r#""policies": ["AdministratorAccess"]"#));
    fixture.clock.advance(std::time::Duration::from_millis(5));
    publish(&fixture, folder.path()).await.unwrap();
    let after = fixture.authenticate(&credentials(SECRET)).await.unwrap();
    assert!(fixture.allowed(&after, "ecr:PutImage", &repository("app")));
    assert!(!fixture.allowed(&before, "ecr:PutImage", &repository("app")));
}

#[tokio::test]
async fn a_changed_secret_replaces_the_old_and_inactive_keys_sign_nothing() {
    let fixture = Fixture::new().await;
    let path = secret(fixture.folder.path(), SECRET);
    let folder = directory(&[("users/alice.json", &alice(&path, r#""policies": []"#))]);
    publish(&fixture, folder.path()).await.unwrap();
    let other = SECRET.replace('0', "x");
    secret(fixture.folder.path(), &other);
    assert!(publish(&fixture, folder.path()).await.unwrap().changed);
    assert!(fixture.authenticate(&credentials(SECRET)).await.is_err());
    fixture.authenticate(&credentials(&other)).await.unwrap();
    let inactive =
        alice(&path, r#""policies": []"#).replace("\"secretFile\"", "\"active\": false, \"secretFile\"");
    write(folder.path(), "users/alice.json", &inactive);
    publish(&fixture, folder.path()).await.unwrap();
    assert!(fixture.authenticate(&credentials(&other)).await.is_err());
}

#[tokio::test]
async fn what_users_of_the_api_have_of_the_files_is_not_taken_from_them() {
    let fixture = Fixture::new().await;
    let key = fixture.user("bob", &policy("Allow", "*", "*")).await;
    let uid = fixture.caller(&key).await.principal_uid().to_owned();
    let caps = r#"{"inlinePolicies": {"caps": {"Version": "2012-10-17", "Statement":
        {"Effect": "Deny", "Action": "ecr:PutImage", "Resource": "*"}}}}"#;
    let folder = directory(&[("groups/capped.json", caps)]);
    publish(&fixture, folder.path()).await.unwrap();
    let of_bob = uid.clone();
    let join =
        "INSERT INTO identity_memberships SELECT $1, uid, 'api' FROM identity_groups WHERE name = 'capped'";
    fixture.write(move |tx| tx.execute(join, &[registry_sql::Value::from(of_bob.as_str())]).map(drop)).await;
    let may_push =
        || async { fixture.allowed(&fixture.caller(&key).await, "ecr:PutImage", &repository("app")) };
    assert!(!may_push().await);
    std::fs::remove_file(folder.path().join("groups/capped.json")).unwrap();
    let Err(PublishError::Findings(findings)) = publish(&fixture, folder.path()).await else { panic!() };
    let told = findings[0].to_string();
    assert!(told.contains("the group \"capped\" is gone") && told.contains("the user \"bob\""), "{told}");
    assert!(!may_push().await);
    fixture.write(move |tx| crate::store::principals::delete_user(tx, &uid)).await;
    publish(&fixture, folder.path()).await.unwrap();
}

#[tokio::test]
async fn whoever_stays_keeps_its_uid() {
    let fixture = Fixture::new().await;
    let path = secret(fixture.folder.path(), SECRET);
    let folder = directory(&[("users/alice.json", &alice(&path, r#""policies": []"#))]);
    publish(&fixture, folder.path()).await.unwrap();
    let before = fixture.authenticate(&credentials(SECRET)).await.unwrap();
    write(
        folder.path(),
        "users/alice.json",
        &alice(&path, r#""tags": {"Team": "blue"}, "policies": ["BerthPullOnly"]"#),
    );
    publish(&fixture, folder.path()).await.unwrap();
    let after = fixture.authenticate(&credentials(SECRET)).await.unwrap();
    assert_eq!(before.user_id(), after.user_id());
    assert!(fixture.allowed(&before, "ecr:BatchGetImage", &repository("app")));
}

#[tokio::test]
async fn a_name_that_the_api_owns_is_an_error_and_nothing_is_published() {
    let fixture = Fixture::new().await;
    fixture.user("bob", &policy("Allow", "*", "*")).await;
    let trust = r#"{"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "000000000000"}}}"#;
    let role = format!("{{\"trustPolicy\": {trust}}}");
    let folder = directory(&[
        ("users/Bob.json", "{}"),
        ("users/carol.json", "{}"),
        ("roles/ecsTaskExecutionRole.json", &role),
    ]);
    let Err(PublishError::Findings(findings)) = publish(&fixture, folder.path()).await else { panic!() };
    let found: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "users/Bob.json:1:1: error: the user \"bob\" exists already, outside the policy files: delete it there first",
            "roles/ecsTaskExecutionRole.json:1:1: error: the role \"ecsTaskExecutionRole\" exists already, outside the policy files: delete it there first",
        ]
    );
    assert!(fixture.identity.published_texts().await.unwrap().is_none());
}

#[tokio::test]
async fn a_missing_secret_or_another_account_publishes_nothing() {
    let fixture = Fixture::new().await;
    let folder = directory(&[("users/alice.json", &alice("/nowhere/secret", r#""policies": []"#))]);
    let Err(error) = publish(&fixture, folder.path()).await else { panic!() };
    assert!(
        error.to_string().contains("users/alice.json:1:67: error: /nowhere/secret cannot be read"),
        "{error}"
    );
    write(folder.path(), "berth-policies.json", r#"{"format": 1, "account": "111111111111"}"#);
    let Err(error) = publish(&fixture, folder.path()).await else { panic!() };
    assert!(error.to_string().contains(&format!("this Berth is {ACCOUNT}")), "{error}");
}

#[tokio::test]
async fn trust_from_files_decides_who_takes_a_role() {
    let fixture = Fixture::new().await;
    let trust = |user: &str| {
        format!(
            r#"{{"trustPolicy": {{"Statement": {{"Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {{"AWS": "arn:aws:iam::{ACCOUNT}:user/{user}"}}}}}}}}"#
        )
    };
    let path = secret(fixture.folder.path(), SECRET);
    let folder = directory(&[
        ("users/alice.json", &alice(&path, r#""policies": []"#)),
        ("roles/tasks/web.json", &trust("alice")),
    ]);
    publish(&fixture, folder.path()).await.unwrap();
    let alice = fixture.authenticate(&credentials(SECRET)).await.unwrap();
    let role = format!("arn:aws:iam::{ACCOUNT}:role/tasks/web");
    let request = crate::AssumeRole {
        role_arn: role.parse().unwrap(),
        session_name: "one".to_owned(),
        duration_s: None,
        policy: None,
        policy_arns: Vec::new(),
        external_id: None,
        tags: Vec::new(),
        transitive_tag_keys: Vec::new(),
        source_identity: None,
    };
    let ctx = fixture.ctx();
    let assume = || fixture.identity.assume_role(&ctx, &alice, &request);
    assume().await.unwrap();
    write(folder.path(), "roles/tasks/web.json", &trust("bob"));
    publish(&fixture, folder.path()).await.unwrap();
    assert!(assume().await.is_err());
}

#[tokio::test]
async fn a_sealed_secret_opens_where_it_was_sealed_and_nowhere_else() {
    let fixture = Fixture::new().await;
    let secret = registry_runtime::SecretString::from(SECRET);
    let user = |sealed: &str| {
        format!(r#"{{"accessKeys": [{{"accessKeyId": "{ALICE_KEY}", "sealedSecret": "{sealed}"}}]}}"#)
    };
    let sealed = crate::files::seal_secret(&crate::testing::sealer(), &secret).unwrap();
    assert!(sealed.starts_with("berth-sealed:"));
    let folder = directory(&[("users/alice.json", &user(&sealed))]);
    publish(&fixture, folder.path()).await.unwrap();
    assert!(fixture.authenticate(&credentials(SECRET)).await.is_ok());
    assert!(!publish(&fixture, folder.path()).await.unwrap().changed);

    let elsewhere = registry_runtime::Sealer::new(&registry_runtime::Secret::new(vec![9; 32]), 1);
    let foreign = crate::files::seal_secret(&elsewhere, &secret).unwrap();
    write(folder.path(), "users/alice.json", &user(&foreign));
    let error = publish(&fixture, folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("users/alice.json:1:69: error: this secret was sealed for another"), "{error}");
    assert!(fixture.authenticate(&credentials(SECRET)).await.is_ok(), "the last good set stays");
    assert!(crate::files::seal_secret(&crate::testing::sealer(), &"short".into()).is_err());
}

#[tokio::test]
async fn providers_of_files_come_change_and_go() {
    let fixture = Fixture::new().await;
    let provider = |ids: &str| format!(r#"{{"url": "https://token.example", "clientIds": [{ids}]}}"#);
    let folder = directory(&[("oidcProviders/ci.json", &provider(r#""a", "b""#))]);
    publish(&fixture, folder.path()).await.unwrap();
    let known = || fixture.identity.inner().directory.load().provider("https://token.example").cloned();
    let first = known().unwrap();
    assert_eq!(&*first.arn, format!("arn:aws:iam::{ACCOUNT}:oidc-provider/token.example"));
    assert!(!publish(&fixture, folder.path()).await.unwrap().changed);

    write(folder.path(), "oidcProviders/ci.json", &provider(r#""a", "b", "c""#));
    publish(&fixture, folder.path()).await.unwrap();
    let more = known().unwrap();
    assert_eq!((&more.uid, more.generation), (&first.uid, first.generation), "more trust ends nothing");
    write(folder.path(), "oidcProviders/ci.json", &provider(r#""a""#));
    publish(&fixture, folder.path()).await.unwrap();
    assert!(known().unwrap().generation > more.generation);

    fs::remove_dir_all(folder.path().join("oidcProviders")).unwrap();
    publish(&fixture, folder.path()).await.unwrap();
    assert!(known().is_none());
}
