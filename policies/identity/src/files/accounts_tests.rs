//! Other accounts, and the control policies of organisations, from the files to the gate.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use registry_aws::Credentials;
use registry_types::Arn;

use super::tests::{directory, write};
use super::{Question, check, simulate};
use crate::testing::{Fixture, policy, repository};
use crate::{AssumeRole, Caller, Check};

const SECRET: &str = "0123456789012345678901234567890123456789";
const FOREIGN: &str = "111122223333";
const ALL_FOR_FOREIGN: &str =
    r#"{"Statement": {"Effect": "Allow", "Action": "ecr:*", "Principal": {"AWS": "111122223333"}}}"#;

struct World {
    fixture: Fixture,
    folder: tempfile::TempDir,
}

impl World {
    async fn new(files: &[(&str, &str)]) -> World {
        let fixture = Fixture::new().await;
        let secret = fixture.folder.path().join("secret");
        fs::write(&secret, SECRET).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let user = |key: &str| {
            let secret = secret.display();
            format!(
                r#"{{"accessKeys": [{{"accessKeyId": "{key}", "secretFile": "{secret}"}}],
                    "policies": ["AdministratorAccess"]}}"#
            )
        };
        let (home, foreign) = (user("AKIAALICEHOME000"), user("AKIAALICEABROAD0"));
        let users = [
            ("users/alice.json", home.as_str()),
            ("accounts/111122223333/users/team/alice.json", foreign.as_str()),
        ];
        let folder = directory(&[&users, files].concat());
        let world = World { fixture, folder };
        world.publish().await;
        world
    }

    async fn publish(&self) {
        let files = check(self.folder.path()).unwrap();
        self.fixture.identity.publish(Arc::new(files), "test").await.unwrap();
    }

    async fn write(&self, name: &str, text: &str) {
        write(self.folder.path(), name, text);
        self.publish().await;
    }

    async fn alices(&self) -> (Caller, Caller) {
        let caller =
            async |key: &str| self.fixture.authenticate(&Credentials::new(key, SECRET)).await.unwrap();
        (caller("AKIAALICEHOME000").await, caller("AKIAALICEABROAD0").await)
    }

    fn allowed(&self, caller: &Caller, action: &'static str, name: &str) -> bool {
        self.fixture.allowed(caller, action, &repository(name))
    }

    /// What `simulate` says to the same question.
    fn simulated(&self, principal: &str, action: &str, name: &str) -> bool {
        let question = Question {
            principal,
            action,
            resource: &repository(name),
            context: &[],
            region: &"us-east-1".parse().unwrap(),
            now_ms: 0,
        };
        simulate(&check(self.folder.path()).unwrap(), &question).unwrap().allowed
    }
}

#[tokio::test]
async fn a_user_of_another_account_needs_the_repository_and_her_own_policies() {
    let world = World::new(&[("repositories/shared.json", ALL_FOR_FOREIGN)]).await;
    let (home, foreign) = world.alices().await;
    assert_eq!(foreign.arn(), "arn:aws:iam::111122223333:user/team/alice");
    assert_eq!(foreign.account_id().as_str(), FOREIGN);
    assert_ne!(home.principal_uid(), foreign.principal_uid());
    assert!(world.allowed(&home, "ecr:BatchGetImage", "private"));
    assert!(!world.allowed(&foreign, "ecr:BatchGetImage", "private"));
    assert!(world.allowed(&foreign, "ecr:BatchGetImage", "shared"));
    assert!(world.simulated(foreign.arn(), "ecr:BatchGetImage", "shared"));
    assert!(!world.simulated(foreign.arn(), "ecr:BatchGetImage", "private"));

    let login = Check::any("ecr:GetAuthorizationToken");
    let may_log_in = |caller: &Caller| {
        world.fixture.identity.authorize(&world.fixture.ctx(), caller, "Test", &login).is_ok()
    };
    assert!(may_log_in(&foreign), "that is her own account's to give");
    assert!(!world.allowed(&foreign, "ecr:CreateRepository", "new"));

    let own = r#"{"policies": ["BerthPullOnly"], "accessKeys": []}"#;
    world.write("accounts/111122223333/users/team/alice.json", own).await;
    assert!(!world.allowed(&foreign, "ecr:PutImage", "shared"), "her key is gone");
}

#[tokio::test]
async fn control_policies_bind_the_account_they_lie_under() {
    let all = policy("Allow", "*", "*");
    let pull = policy("Allow", "ecr:BatchGetImage", "*");
    let world = World::new(&[
        ("repositories/shared.json", ALL_FOR_FOREIGN),
        ("accounts/111122223333/serviceControlPolicies/1-root/all.json", &all),
        ("accounts/111122223333/serviceControlPolicies/2-partners/pull.json", &pull),
    ])
    .await;
    let (home, foreign) = world.alices().await;
    assert!(world.allowed(&foreign, "ecr:BatchGetImage", "shared"));
    assert!(!world.allowed(&foreign, "ecr:PutImage", "shared"));
    assert!(!world.simulated(foreign.arn(), "ecr:PutImage", "shared"));
    assert!(world.allowed(&home, "ecr:PutImage", "shared"));

    let no_push = policy("Deny", "ecr:PutImage", "*");
    world.write("serviceControlPolicies/1-root/all.json", &all).await;
    world.write("serviceControlPolicies/1-root/no-push.json", &no_push).await;
    assert!(!world.allowed(&home, "ecr:PutImage", "shared"));
    assert!(world.allowed(&home, "ecr:BatchGetImage", "shared"));

    let everyone = |effect: &str| {
        format!(
            r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "{effect}", "Principal": "*",
                "Action": "ecr:BatchGetImage", "Resource": "*"}}}}"#
        )
    };
    world.write("resourceControlPolicies/1-root/all.json", &everyone("Allow")).await;
    assert!(world.allowed(&foreign, "ecr:BatchGetImage", "shared"));
    world.write("resourceControlPolicies/2-account/none.json", &everyone("Deny")).await;
    for caller in [&home, &foreign] {
        assert!(!world.allowed(caller, "ecr:BatchGetImage", "shared"), "{}", caller.arn());
    }
    fs::remove_dir_all(world.folder.path().join("resourceControlPolicies")).unwrap();
    world.publish().await;
    assert!(world.allowed(&home, "ecr:BatchGetImage", "shared"));
}

#[tokio::test]
async fn a_role_of_another_account_is_taken_by_its_own_people() {
    let role = r#"{"policies": ["AdministratorAccess"], "permissionsBoundary": "bound", "trustPolicy": {"Statement":
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "111122223333"}}}}"#;
    let world = World::new(&[
        ("repositories/shared.json", ALL_FOR_FOREIGN),
        ("accounts/111122223333/roles/puller.json", role),
        ("accounts/111122223333/policies/bound.json", &policy("Allow", "ecr:BatchGetImage", "*")),
    ])
    .await;
    let (home, foreign) = world.alices().await;
    let arn: Arn = "arn:aws:iam::111122223333:role/puller".parse().unwrap();
    let take = async |caller: &Caller| {
        let request = AssumeRole::new(arn.clone(), "one");
        world.fixture.identity.assume_role(&world.fixture.ctx(), caller, &request).await
    };
    assert!(take(&home).await.is_err(), "the role trusts its own account alone");
    let session = world.fixture.session(&take(&foreign).await.unwrap()).await;
    assert_eq!(session.arn(), "arn:aws:sts::111122223333:assumed-role/puller/one");
    assert!(world.allowed(&session, "ecr:BatchGetImage", "shared"));
    assert!(!world.allowed(&session, "ecr:PutImage", "shared"), "the boundary caps it");
    assert!(!world.allowed(&session, "ecr:BatchGetImage", "private"));
}

#[test]
fn what_another_account_cannot_have_is_refused() {
    let complaints = |name: &str, text: &str| {
        let folder = directory(&[(name, text)]);
        check(folder.path()).err().map(|findings| findings[0].to_string()).unwrap_or_default()
    };
    let all = policy("Allow", "*", "*");
    for (name, expected) in [
        ("accounts/1234/users/a.json", "is not named by the twelve digits"),
        ("accounts/000000000000/users/a.json", "is the account of this directory"),
        ("accounts/111122223333/repositories/a.json", "owns nothing here"),
        ("accounts/111122223333/resourceControlPolicies/1/a.json", "owns nothing here"),
        ("accounts/111122223333/a.json", "belongs to no folder"),
        ("accounts/111122223333/accounts/a.json", "belongs to no folder"),
        ("serviceControlPolicies/a.json", "lies at LEVEL/NAME.json"),
        ("serviceControlPolicies/1/2/a.json", "lies at LEVEL/NAME.json"),
    ] {
        let complaint = complaints(name, &all);
        assert!(complaint.contains(expected), "{name}: {complaint}");
    }
    let user = r#"{"policies": ["push"], "groups": ["dev"]}"#;
    let folder = directory(&[
        ("accounts/111122223333/users/alice.json", user),
        ("policies/push.json", &all),
        ("groups/dev.json", "{}"),
    ]);
    let findings = check(folder.path()).unwrap_err();
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    assert_eq!(errors, 2, "what the home account has is not the other's: {findings:?}");
}
