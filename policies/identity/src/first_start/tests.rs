//! What the first start makes, and what later ones leave alone.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use registry_runtime::Clock;
use registry_sql::Database;

use crate::testing::{Fixture, START_MS, config, sealer, signing};
use crate::{Bootstrap, BootstrapKey, Identity, IdentityConfig, IdentityError, TaskRole};

fn bootstrap(secret: &str) -> Option<BootstrapKey> {
    Some(BootstrapKey { access_key_id: "BERTHADMIN0000001".to_owned(), secret_access_key: secret.into() })
}

async fn open(folder: &Path, config: IdentityConfig) -> Result<(Identity, Bootstrap), IdentityError> {
    let database = Database::open_rerunning(&test_support::database_in(folder), 5).await.unwrap();
    Identity::open(database, sealer(), config, Clock::manual(START_MS)).await
}

#[tokio::test]
async fn the_first_start_makes_an_administrator_and_the_roles_of_ecs() {
    let fixture = Fixture::new().await;
    let caller = fixture.caller(&fixture.administrator).await;
    assert!(fixture.allowed(&caller, "iam:CreateUser", "arn:aws:iam::000000000000:user/x"));
    let role_arn = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole".parse().unwrap();
    let task_arn = "arn:aws:ecs:us-east-1:000000000000:task/default/0123".parse().unwrap();
    let execution =
        fixture.identity.definition_caller(TaskRole { role_arn: &role_arn, task_arn: &task_arn }).unwrap();
    assert!(fixture.allowed(&execution, "ecr:BatchGetImage", &crate::testing::repository("app")));
    assert!(!fixture.allowed(&execution, "ecr:PutImage", &crate::testing::repository("app")));
    let role_arn = "arn:aws:iam::000000000000:role/ecsInstanceRole".parse().unwrap();
    assert!(
        fixture.identity.definition_caller(TaskRole { role_arn: &role_arn, task_arn: &task_arn }).is_err(),
        "the role of hosts is not for tasks"
    );
}

#[tokio::test]
async fn a_key_made_at_random_is_written_for_its_owner_only() {
    let fixture = Fixture::new().await;
    let path = fixture.folder.path().join("credentials");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    let secret = fixture.administrator.secret_access_key.expose();
    assert!(text.contains(&format!("aws_access_key_id = {}\n", fixture.administrator.access_key_id)));
    assert!(text.contains(&format!("aws_secret_access_key = {secret}\n")));
    for file in std::fs::read_dir(fixture.folder.path()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if name == "credentials" {
            continue;
        }
        let bytes = std::fs::read(fixture.folder.path().join(&name)).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{name}");
    }
}

#[tokio::test]
async fn no_two_first_starts_make_the_same_secret() {
    let keys = [Fixture::new().await.administrator, Fixture::new().await.administrator];
    assert_ne!(keys[0].access_key_id, keys[1].access_key_id);
    assert_ne!(keys[0].secret_access_key, keys[1].secret_access_key);
    assert!(keys.iter().all(|key| key.secret_access_key.expose().len() >= 40));
}

#[tokio::test]
async fn a_later_bootstrap_key_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = "a secret of more than 32 characters!";
    let start = |secret: &str| IdentityConfig { bootstrap: bootstrap(secret), ..config(folder.path()) };
    let (identity, made) = open(folder.path(), start(first)).await.unwrap();
    let Bootstrap::Created { key, generated: false } = made else { panic!("{made:?}") };
    identity.close().await;

    let (identity, same) = open(folder.path(), start(first)).await.unwrap();
    assert!(matches!(same, Bootstrap::Existing { ignored_bootstrap_key: false }), "{same:?}");
    identity.close().await;

    let another = "another secret of more than 32 characters";
    let (identity, found) = open(folder.path(), start(another)).await.unwrap();
    assert!(matches!(found, Bootstrap::Existing { ignored_bootstrap_key: true }), "{found:?}");
    let ctx = crate::RequestContext::local(START_MS);
    for (secret, works) in [(first, true), (another, false)] {
        let mut parts = crate::testing::unsigned(&[]);
        let mut credentials = signing(&key);
        credentials.secret_access_key = secret.to_owned();
        registry_aws::sigv4::sign(&mut parts, &credentials, "us-east-1", "sts", b"", START_MS);
        assert_eq!(identity.authenticate_aws(&parts, b"", &["sts"], &ctx).await.is_ok(), works, "{secret}");
    }
}

#[tokio::test]
async fn a_reset_lets_the_operator_back_in_and_the_old_key_out() {
    let fixture = Fixture::new().await;
    let config = config(fixture.folder.path());
    let made = Identity::reset_administrator(&fixture.database, &sealer(), &config, START_MS).await.unwrap();
    fixture.identity.refresh().await.unwrap();
    assert!(fixture.authenticate(&signing(&fixture.administrator)).await.is_err());
    let caller = fixture.caller(&made).await;
    assert!(fixture.allowed(&caller, "iam:CreateUser", "arn:aws:iam::000000000000:user/x"));
    let written = std::fs::read_to_string(fixture.folder.path().join("credentials")).unwrap();
    assert!(written.contains(&made.access_key_id));
}

#[tokio::test]
async fn weak_bootstrap_keys_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    for (id, secret) in [
        ("SHORT", "a secret of more than 32 characters!"),
        ("lowercase0000000000", "a secret of more than 32 characters!"),
        ("BERTHADMIN0000001", "short"),
    ] {
        let bootstrap = BootstrapKey { access_key_id: id.to_owned(), secret_access_key: secret.into() };
        let config = IdentityConfig { bootstrap: Some(bootstrap), ..config(folder.path()) };
        let refused = open(folder.path(), config).await;
        assert!(matches!(refused.err(), Some(IdentityError::BootstrapKey(_))), "{id}");
    }
    assert!(!folder.path().join("credentials").exists());
}

#[tokio::test]
async fn another_account_id_than_the_stored_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), config(folder.path())).await.unwrap().0.close().await;
    let other = IdentityConfig { account_id: "111111111111".parse().unwrap(), ..config(folder.path()) };
    let refused = open(folder.path(), other).await.err();
    assert!(matches!(refused, Some(IdentityError::AnotherAccount { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_crash_between_commit_and_credentials_is_made_good() {
    let folder = tempfile::tempdir().unwrap();
    let (credentials, pending) =
        (folder.path().join("credentials"), folder.path().join("credentials.pending"));
    open(folder.path(), config(folder.path())).await.unwrap().0.close().await;
    std::fs::rename(&credentials, &pending).unwrap();
    open(folder.path(), config(folder.path())).await.unwrap().0.close().await;
    assert!(credentials.exists() && !pending.exists());

    let good = std::fs::read_to_string(&credentials).unwrap();
    std::fs::write(&pending, good.replace("aws_secret_access_key = ", "aws_secret_access_key = x")).unwrap();
    open(folder.path(), config(folder.path())).await.unwrap().0.close().await;
    assert_eq!(std::fs::read_to_string(&credentials).unwrap(), good, "a key of nobody replaces none");
    assert!(!pending.exists());
}

#[tokio::test]
async fn of_two_servers_that_start_at_once_one_makes_the_account() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open_rerunning(&test_support::database_in(folder.path()), 5).await.unwrap();
    let start = |name: &str| {
        let own = folder.path().join(name);
        std::fs::create_dir(&own).unwrap();
        Identity::open(database.clone(), sealer(), config(&own), Clock::manual(START_MS))
    };
    let (one, two) = tokio::join!(start("1"), start("2"));
    for (name, opened) in [("1", one), ("2", two)] {
        let created = matches!(opened.unwrap().1, Bootstrap::Created { .. });
        let written = folder.path().join(name).join("credentials").exists();
        assert_eq!(created, written, "only the winner has credentials to show");
        assert!(!folder.path().join(name).join("credentials.pending").exists());
    }
}
