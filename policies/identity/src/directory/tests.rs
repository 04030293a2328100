//! What was taken away is gone within a second, everywhere; and nothing is decided with old news.

use std::time::{Duration, Instant};

use crate::authorize::DeniedKind;
use crate::store::principals::NewGroup;
use crate::store::{self, Owner};
use crate::testing::{ALLOW_ALL, Fixture, basic, policy, repository, signing};
use crate::{AuthenticationError, Caller, Check, Identity, Scope};

fn check() -> Check {
    Check::on("ecr:PutImage", repository("app").parse().unwrap())
}

async fn within_deadline(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "it did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Everything that was made with a user's key.
struct Made {
    caller: Caller,
    ecr: http::HeaderMap,
    bearer: http::HeaderMap,
}

impl Fixture {
    async fn make(&self, key: &crate::AccessKey) -> Made {
        let caller = self.caller(key).await;
        let ecr = self.identity.mint_ecr_token(&caller).unwrap();
        let bearer = self.identity.mint_bearer(&caller, &Scope::default()).unwrap();
        Made {
            caller,
            ecr: basic("AWS", ecr.token.expose()),
            bearer: crate::testing::bearer(bearer.token.expose()),
        }
    }

    fn works(&self, identity: &Identity, made: &Made) -> [bool; 3] {
        let ctx = self.ctx();
        [
            identity.authorize(&ctx, &made.caller, "Test", &check()).is_ok(),
            identity.authenticate_docker(&made.ecr, &ctx).is_ok(),
            identity.authenticate_docker(&made.bearer, &ctx).is_ok(),
        ]
    }
}

#[tokio::test]
async fn nothing_is_allowed_by_default() {
    let fixture = Fixture::new().await;
    let key = fixture.user("nobody", &policy("Deny", "x:y", "*")).await;
    let caller = fixture.caller(&key).await;
    let denied = fixture.identity.authorize(&fixture.ctx(), &caller, "PutImage", &check()).unwrap_err();
    assert_eq!(
        denied.message(),
        "User: arn:aws:iam::000000000000:user/nobody is not authorized to perform: ecr:PutImage on resource: \
         arn:aws:ecr:us-east-1:000000000000:repository/app because no identity-based policy allows the \
         ecr:PutImage action"
    );
    let anonymous = fixture.identity.anonymous();
    assert!(fixture.identity.authorize(&fixture.ctx(), &anonymous, "PutImage", &check()).is_err());
}

#[tokio::test]
async fn an_explicit_deny_wins_and_is_named() {
    let fixture = Fixture::new().await;
    let key = fixture.user("alice", ALLOW_ALL).await;
    let caller = fixture.caller(&key).await;
    assert!(fixture.identity.authorize(&fixture.ctx(), &caller, "PutImage", &check()).is_ok());
    let uid = caller.principal_uid().to_owned();
    let deny = policy("Deny", "ecr:Put*", "*");
    fixture.write(move |tx| store::policies::put_inline(tx, &uid, "no-push", &deny, Owner::Api)).await;
    let denied = fixture.identity.authorize(&fixture.ctx(), &caller, "PutImage", &check()).unwrap_err();
    assert!(denied.message().ends_with("with an explicit deny in an identity-based policy"), "{denied}");
    let line = fixture.audit_lines().await.pop().unwrap();
    assert_eq!((line["policy"].as_str(), line["statement"].as_i64()), (Some("alice/no-push"), Some(0)));
    assert_eq!(line["generation"].as_i64(), Some(fixture.identity.security_generation()));
}

#[tokio::test]
async fn a_disabled_key_ends_everything_made_with_it_and_stays_dead_when_enabled_again() {
    let fixture = Fixture::new().await;
    let key = fixture.user("alice", ALLOW_ALL).await;
    let made = fixture.make(&key).await;
    assert_eq!(fixture.works(&fixture.identity, &made), [true; 3]);
    fixture.set_key_active(&key, false).await;
    assert_eq!(fixture.works(&fixture.identity, &made), [false; 3]);
    assert!(matches!(fixture.authenticate(&signing(&key)).await, Err(AuthenticationError::InvalidToken)));
    fixture.set_key_active(&key, true).await;
    assert_eq!(fixture.works(&fixture.identity, &made), [false; 3]);
    assert!(fixture.authenticate(&signing(&key)).await.is_ok());
}

#[tokio::test]
async fn another_server_notices_a_revocation_by_itself() {
    let fixture = Fixture::new().await;
    let key = fixture.user("alice", ALLOW_ALL).await;
    let made = fixture.make(&key).await;
    let other = fixture.another_server().await;
    assert_eq!(fixture.works(&other, &made), [true; 3], "a token of one server works on the other");
    fixture.delete_key(&key).await;
    within_deadline(|| fixture.works(&other, &made) == [false; 3]).await;
}

#[tokio::test]
async fn a_user_that_is_made_anew_is_another_one() {
    let fixture = Fixture::new().await;
    let made = fixture.make(&fixture.user("alice", ALLOW_ALL).await).await;
    let uid = made.caller.principal_uid().to_owned();
    fixture.write(move |tx| store::principals::delete_user(tx, &uid)).await;
    assert_eq!(fixture.works(&fixture.identity, &made), [false; 3]);
    let again = fixture.make(&fixture.user("alice", ALLOW_ALL).await).await;
    assert_eq!(fixture.works(&fixture.identity, &made), [false; 3]);
    assert_eq!(fixture.works(&fixture.identity, &again), [true; 3]);
}

#[tokio::test]
async fn what_a_group_gave_is_gone_with_the_membership() {
    let fixture = Fixture::new().await;
    let key = fixture.user("alice", &policy("Deny", "x:y", "*")).await;
    let caller = fixture.caller(&key).await;
    let uid = caller.principal_uid().to_owned();
    fixture
        .write(move |tx| {
            let group = NewGroup {
                uid: "AGPATEST".to_owned(),
                name: "builders".to_owned(),
                path: "/".to_owned(),
                owner: Owner::Api,
                foreign: None,
            };
            store::principals::insert_group(tx, &group, 0)?;
            store::policies::attach(tx, "AGPATEST", "arn:aws:iam::aws:policy/BerthPowerUser", Owner::Api)?;
            store::principals::insert_membership(tx, &uid, "AGPATEST", Owner::Api)
        })
        .await;
    assert!(fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    fixture.write(|tx| store::principals::delete_group(tx, "AGPATEST")).await;
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
}

#[tokio::test]
async fn the_sessions_of_a_role_or_user_can_be_ended_at_once() {
    let fixture = Fixture::new().await;
    let trusted = crate::testing::trust(r#""Service":"ecs-tasks.amazonaws.com""#, "{}");
    let role = fixture.role("web", &trusted, ALLOW_ALL).await;
    let task = "arn:aws:ecs:us-east-1:000000000000:task/default/01".parse().unwrap();
    let task_role = crate::TaskRole { role_arn: &role, task_arn: &task };
    let credentials = fixture.identity.task_credentials(task_role).await.unwrap();
    let session = fixture.session(&credentials).await;
    fixture.identity.end_sessions(&role).await.unwrap();
    let denied = fixture.identity.authorize(&fixture.ctx(), &session, "PutImage", &check()).unwrap_err();
    assert_eq!(denied.kind(), DeniedKind::Revoked);

    let key = fixture.user("alice", ALLOW_ALL).await;
    let made = fixture.make(&key).await;
    let user = made.caller.to_arn().unwrap();
    fixture.identity.end_sessions(&user).await.unwrap();
    assert_eq!(fixture.works(&fixture.identity, &made), [false; 3]);
    assert_eq!(fixture.works(&fixture.identity, &fixture.make(&key).await), [true; 3], "the key stays");
    let nobody = "arn:aws:iam::000000000000:user/nobody".parse().unwrap();
    assert!(fixture.identity.end_sessions(&nobody).await.is_err());
}

#[tokio::test]
async fn nothing_is_decided_with_a_snapshot_older_than_a_second() {
    let fixture = Fixture::new().await;
    let made = fixture.make(&fixture.administrator).await;
    // Held, it keeps the refresher from asking, as a database does that hangs.
    let turn = fixture.identity.inner().refreshing.lock().await;
    fixture.clock.advance(Duration::from_millis(1001));
    let denied = fixture.identity.authorize(&fixture.ctx(), &made.caller, "Test", &check()).unwrap_err();
    assert_eq!((denied.kind(), denied.to_aws().status), (DeniedKind::Unavailable, 503));
    for headers in [&made.ecr, &made.bearer] {
        let refused = fixture.identity.authenticate_docker(headers, &fixture.ctx());
        assert!(matches!(refused, Err(AuthenticationError::Unavailable)));
    }
    drop(turn);
    // As a request does that comes before the refresher's turn.
    fixture.identity.confirm().await;
    assert_eq!(fixture.works(&fixture.identity, &made), [true; 3]);
}

#[tokio::test]
async fn policies_of_files_count_for_their_resource_beside_its_own() {
    let fixture = Fixture::new().await;
    let statement = |effect: &str, action: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Principal":"*","Action":"{action}"}}]}}"#
        )
    };
    let document = statement("Allow", "ecr:BatchGetImage");
    fixture
        .write(move |tx| {
            store::policies::insert_resource_policy(tx, &repository("public"), "public.json", &document)
        })
        .await;
    let anonymous = fixture.identity.anonymous();
    assert!(fixture.allowed(&anonymous, "ecr:BatchGetImage", &repository("public")));
    assert!(!fixture.allowed(&anonymous, "ecr:PutImage", &repository("public")));
    assert!(!fixture.allowed(&anonymous, "ecr:BatchGetImage", &repository("private")));
    let own = policies::Policy::parse(
        &statement("Deny", "ecr:BatchGetImage"),
        policies::PolicyKind::RepositoryPolicy,
    );
    let check = Check::on("ecr:BatchGetImage", repository("public").parse().unwrap())
        .with_resource_policy(Some(own.unwrap().into()));
    let denied = fixture.identity.authorize(&fixture.ctx(), &anonymous, "Pull", &check).unwrap_err();
    assert!(denied.message().ends_with("with an explicit deny in a resource-based policy"), "{denied}");
}

#[tokio::test]
async fn a_stored_policy_that_does_not_parse_denies_everything() {
    let fixture = Fixture::new().await;
    let key = fixture.user("alice", ALLOW_ALL).await;
    let caller = fixture.caller(&key).await;
    let uid = caller.principal_uid().to_owned();
    fixture.write(move |tx| store::policies::put_inline(tx, &uid, "broken", "{", Owner::Api)).await;
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
}

#[tokio::test]
async fn a_sealed_secret_works_in_its_own_row_only() {
    let fixture = Fixture::new().await;
    let (alice, bob) = (fixture.user("alice", ALLOW_ALL).await, fixture.user("bob", ALLOW_ALL).await);
    let (from, to) = (alice.access_key_id.clone(), bob.access_key_id.clone());
    fixture
        .write(move |tx| {
            let sql = "UPDATE identity_access_keys SET row_version = 2, secret = \
                       (SELECT secret FROM identity_access_keys WHERE access_key_id = $1) \
                       WHERE access_key_id = $2";
            tx.execute(sql, registry_sql::params![from.as_str(), to.as_str()]).map(drop)
        })
        .await;
    let mut moved = signing(&bob);
    moved.secret_access_key = alice.secret_access_key.expose().to_owned();
    assert!(fixture.authenticate(&moved).await.is_err());
    assert!(fixture.authenticate(&signing(&bob)).await.is_err());
    assert!(fixture.authenticate(&signing(&alice)).await.is_ok(), "the others are not harmed");
}

#[tokio::test]
async fn the_principal_of_a_host_comes_and_goes() {
    let fixture = Fixture::new().await;
    let key = fixture.identity.create_instance_principal("host-1").await.unwrap();
    let caller = fixture.caller(&key).await;
    assert_eq!(caller.arn(), "arn:aws:iam::000000000000:user/berth/instances/host-1");
    assert_eq!(caller.instance(), Some("host-1"));
    let cluster = "arn:aws:ecs:us-east-1:000000000000:cluster/default";
    assert!(fixture.allowed(&caller, "ecs:RegisterContainerInstance", cluster));
    assert!(!fixture.allowed(&caller, "ecs:RunTask", cluster));
    assert!(fixture.identity.create_instance_principal("host-1").await.is_err());
    assert!(fixture.identity.create_instance_principal("../x").await.is_err());
    let renewed = fixture.identity.renew_instance_key("host-1").await.unwrap();
    assert!(!fixture.allowed(&caller, "ecs:RegisterContainerInstance", cluster), "the key before is void");
    let again = fixture.caller(&renewed).await;
    assert_eq!(again.principal_uid(), caller.principal_uid());
    assert!(fixture.allowed(&again, "ecs:RegisterContainerInstance", cluster));
    assert!(fixture.identity.renew_instance_key("administrator").await.is_err());
    fixture.identity.delete_instance_principal("host-1").await.unwrap();
    assert!(!fixture.allowed(&again, "ecs:RegisterContainerInstance", cluster));
    assert!(fixture.identity.renew_instance_key("host-1").await.is_err());
    fixture.identity.delete_instance_principal("host-1").await.unwrap();
    assert!(fixture.identity.delete_instance_principal("administrator").await.is_err());
}

#[tokio::test]
async fn after_close_nothing_is_allowed() {
    let fixture = Fixture::new().await;
    let caller = fixture.caller(&fixture.administrator).await;
    assert!(fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    fixture.identity.close().await;
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
}

#[allow(clippy::print_stdout, reason = "what was measured is told")]
#[tokio::test]
#[ignore = "long: a thousand users and a thousand roles"]
async fn one_change_among_two_thousand_principals_is_loaded_quickly() {
    const EACH: usize = 1000;
    let fixture = Fixture::new().await;
    let sealer = crate::testing::sealer();
    for from in (0..EACH).step_by(100) {
        let sealer = std::sync::Arc::clone(&sealer);
        let inserted = fixture.database.write(move |tx| {
            for at in from..from + 100 {
                let own = policy("Allow", "ecr:*", &repository(&format!("team{at}/*")));
                let name = |kind: &str| format!("{kind}{at}");
                let (user, role) = (crate::unique_id::user(), crate::unique_id::role());
                let (name_of_user, name_of_role) = (name("user"), name("role"));
                let user = store::principals::NewUser {
                    uid: user,
                    name: name_of_user,
                    path: "/".to_owned(),
                    boundary: None,
                    tags: vec![("team".to_owned(), "blue".to_owned())],
                    owner: Owner::Api,
                    foreign: None,
                };
                let role = store::principals::NewRole {
                    uid: role,
                    name: name_of_role,
                    path: "/".to_owned(),
                    description: String::new(),
                    trust_policy: crate::testing::trust(r#""AWS":"arn:aws:iam::000000000000:root""#, "{}"),
                    max_session_s: 3600,
                    boundary: None,
                    tags: Vec::new(),
                    owner: Owner::Api,
                    foreign: None,
                };
                let key = crate::AccessKey {
                    access_key_id: crate::unique_id::access_key_id(),
                    secret_access_key: crate::unique_id::secret_access_key(),
                };
                let key = crate::first_start::seal_key(&sealer, &key, &user.uid, Owner::Api);
                store::principals::insert_user(tx, &user, 1)?;
                store::principals::insert_role(tx, &role, 1)?;
                store::keys::insert(tx, &key, 1)?;
                store::policies::put_inline(tx, &user.uid, "own", &own, Owner::Api)?;
                store::policies::put_inline(tx, &role.uid, "own", &own, Owner::Api)?;
                store::policies::attach(tx, &user.uid, "arn:aws:iam::aws:policy/BerthPullOnly", Owner::Api)?;
            }
            Ok::<_, registry_sql::Error>(())
        });
        inserted.await.unwrap();
    }
    fixture.write(|_| Ok(())).await;
    let mut spent = Vec::new();
    for _ in 0..20 {
        fixture.database.write(|tx| store::bump(tx)).await.unwrap();
        let begin = Instant::now();
        fixture.identity.refresh().await.unwrap();
        spent.push(begin.elapsed());
    }
    spent.sort();
    println!("a change is loaded in {:?} at the median, {:?} at most", spent[10], spent[19]);
}
