//! Sessions: who gets one, what it may do, and what ends it.

use policies::PolicyKind;
use proptest::prelude::{Strategy, any, prop};
use proptest::strategy::Just;
use registry_types::Arn;

use crate::store::{self, Level};
use crate::testing::{ACCOUNT, ALLOW_ALL, Fixture, policy, repository, trust};
use crate::{
    AssumeRole, AssumeRoleError, Caller, Check, Identity, LiveTasks, Scope, TaskRole, TaskRoleError,
    TemporaryCredentials,
};

fn request(role_arn: &Arn) -> AssumeRole {
    AssumeRole::new(role_arn.clone(), "session")
}

fn trust_user(name: &str, conditions: &str) -> String {
    trust(&format!(r#""AWS":"arn:aws:iam::{ACCOUNT}:user/{name}""#), conditions)
}

impl Fixture {
    async fn assume(
        &self,
        caller: &Caller,
        request: &AssumeRole,
    ) -> Result<TemporaryCredentials, AssumeRoleError> {
        self.identity.assume_role(&self.ctx(), caller, request).await
    }
}

fn code(error: AssumeRoleError) -> String {
    registry_aws::AwsError::from(error).code.into_owned()
}

#[tokio::test]
async fn a_user_that_the_trust_policy_names_needs_no_policy_of_its_own() {
    let fixture = Fixture::new().await;
    let alice = fixture.caller(&fixture.user("alice", &policy("Allow", "ecr:ListImages", "*")).await).await;
    let bob = fixture.caller(&fixture.user("bob", ALLOW_ALL).await).await;
    let role = fixture.role("builder", &trust_user("alice", "{}"), &policy("Allow", "ecr:*", "*")).await;
    let session = fixture.session(&fixture.assume(&alice, &request(&role)).await.unwrap()).await;
    assert!(fixture.allowed(&session, "ecr:PutImage", &repository("app")));
    assert!(!fixture.allowed(&session, "ecs:RunTask", &repository("app")), "no more than the role");
    let error = fixture.assume(&bob, &request(&role)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "User: arn:aws:iam::000000000000:user/bob is not authorized to perform: sts:AssumeRole on resource: \
         arn:aws:iam::000000000000:role/builder"
    );
}

#[tokio::test]
async fn trust_in_the_account_leaves_it_to_the_users_policies() {
    let fixture = Fixture::new().await;
    let role = fixture
        .role("shared", &trust(&format!(r#""AWS":"arn:aws:iam::{ACCOUNT}:root""#), "{}"), ALLOW_ALL)
        .await;
    let with = fixture.user("with", &policy("Allow", "sts:AssumeRole", role.as_str())).await;
    let without = fixture.user("without", &policy("Allow", "ecr:*", "*")).await;
    assert!(fixture.assume(&fixture.caller(&with).await, &request(&role)).await.is_ok());
    let error = fixture.assume(&fixture.caller(&without).await, &request(&role)).await.unwrap_err();
    assert_eq!(code(error), "AccessDeniedException");
}

#[tokio::test]
async fn a_role_that_does_not_exist_is_refused_like_one_that_does_not_trust() {
    let fixture = Fixture::new().await;
    let admin = fixture.caller(&fixture.administrator).await;
    let nowhere = format!("arn:aws:iam::{ACCOUNT}:role/nowhere").parse().unwrap();
    let missing = fixture.assume(&admin, &request(&nowhere)).await.unwrap_err().to_string();
    let distrusting = fixture.role("elsewhere", &trust_user("alice", "{}"), ALLOW_ALL).await;
    let distrusted = fixture.assume(&admin, &request(&distrusting)).await.unwrap_err().to_string();
    assert_eq!(missing.replace("nowhere", "elsewhere"), distrusted);
    let foreign = "arn:aws:iam::111111111111:role/elsewhere".parse().unwrap();
    assert!(fixture.assume(&admin, &request(&foreign)).await.is_err());
}

#[tokio::test]
async fn the_external_id_must_be_the_one_of_the_trust_policy() {
    let fixture = Fixture::new().await;
    let condition = r#"{"StringEquals":{"sts:ExternalId":"1234"}}"#;
    let role = fixture.role("vendor", &trust_user("administrator", condition), ALLOW_ALL).await;
    let admin = fixture.caller(&fixture.administrator).await;
    for (external_id, allowed) in [(None, false), (Some("9999"), false), (Some("1234"), true)] {
        let request = AssumeRole { external_id: external_id.map(str::to_owned), ..request(&role) };
        assert_eq!(fixture.assume(&admin, &request).await.is_ok(), allowed, "{external_id:?}");
    }
}

#[tokio::test]
async fn a_session_policy_takes_away_and_never_gives() {
    let fixture = Fixture::new().await;
    let admin = fixture.caller(&fixture.administrator).await;
    let role =
        fixture.role("puller", &trust_user("administrator", "{}"), &policy("Allow", "ecr:Batch*", "*")).await;
    let app = policy("Allow", "*", &repository("app"));
    let bounded = AssumeRole { policy: Some(app), ..request(&role) };
    let session = fixture.session(&fixture.assume(&admin, &bounded).await.unwrap()).await;
    assert!(fixture.allowed(&session, "ecr:BatchGetImage", &repository("app")));
    assert!(!fixture.allowed(&session, "ecr:BatchGetImage", &repository("other")));
    assert!(!fixture.allowed(&session, "ecr:PutImage", &repository("app")));

    // What is made with the session is bounded alike.
    let (identity, ctx) = (&fixture.identity, fixture.ctx());
    let ecr = identity.mint_ecr_token(&session).unwrap();
    let docker =
        identity.authenticate_docker(&crate::testing::basic("AWS", ecr.token.expose()), &ctx).unwrap();
    let bearer = identity.mint_bearer(&docker, &Scope::default()).unwrap();
    let docker = identity.authenticate_docker(&crate::testing::bearer(bearer.token.expose()), &ctx).unwrap();
    assert!(fixture.allowed(&docker, "ecr:BatchGetImage", &repository("app")));
    assert!(!fixture.allowed(&docker, "ecr:BatchGetImage", &repository("other")));

    let read_only = "arn:aws:iam::aws:policy/BerthPullOnly".to_owned();
    let managed = AssumeRole { policy_arns: vec![read_only], ..request(&role) };
    let session = fixture.session(&fixture.assume(&admin, &managed).await.unwrap()).await;
    assert!(fixture.allowed(&session, "ecr:BatchGetImage", &repository("app")));
    assert!(!fixture.allowed(&session, "ecr:BatchDeleteImage", &repository("app")));
}

#[tokio::test]
async fn whoever_assumes_a_role_loses_its_own_rights_for_the_session() {
    let fixture = Fixture::new().await;
    let admin = fixture.caller(&fixture.administrator).await;
    let role = fixture
        .role("narrow", &trust_user("administrator", "{}"), &policy("Allow", "ecr:ListImages", "*"))
        .await;
    let session = fixture.session(&fixture.assume(&admin, &request(&role)).await.unwrap()).await;
    assert!(!fixture.allowed(&session, "ecr:PutImage", &repository("app")));
}

#[tokio::test]
async fn requests_that_aws_refuses_are_refused_in_its_words() {
    let fixture = Fixture::new().await;
    let admin = fixture.caller(&fixture.administrator).await;
    let role = fixture.role("r", &trust_user("administrator", "{}"), ALLOW_ALL).await;
    let good = || request(&role);
    let tag = |key: &str| (key.to_owned(), "v".to_owned());
    for (what, request, expected) in [
        ("a name of one letter", AssumeRole { session_name: "x".into(), ..good() }, "ValidationError"),
        ("a name with a slash", AssumeRole { session_name: "a/b".into(), ..good() }, "ValidationError"),
        ("too short", AssumeRole { duration_s: Some(899), ..good() }, "ValidationError"),
        ("too long", AssumeRole { duration_s: Some(43_201), ..good() }, "ValidationError"),
        (
            "longer than the role's maximum",
            AssumeRole { duration_s: Some(7_201), ..good() },
            "ValidationError",
        ),
        (
            "an external id of one letter",
            AssumeRole { external_id: Some("x".into()), ..good() },
            "ValidationError",
        ),
        (
            "a policy that is none",
            AssumeRole { policy: Some("{}".into()), ..good() },
            "MalformedPolicyDocument",
        ),
        (
            "an endless policy",
            AssumeRole { policy: Some(ALLOW_ALL.to_owned() + &" ".repeat(3000)), ..good() },
            "ValidationError",
        ),
        (
            "an unknown managed policy",
            AssumeRole { policy_arns: vec!["arn:x".into()], ..good() },
            "ValidationError",
        ),
        ("a tag of AWS", AssumeRole { tags: vec![tag("aws:x")], ..good() }, "ValidationError"),
        ("a tag twice", AssumeRole { tags: vec![tag("a"), tag("A")], ..good() }, "InvalidParameterValue"),
        (
            "more tags than a token holds",
            AssumeRole { tags: (0..50).map(|n| (format!("{n:0>100}"), "v".repeat(250))).collect(), ..good() },
            "PackedPolicyTooLarge",
        ),
    ] {
        assert_eq!(code(fixture.assume(&admin, &request).await.unwrap_err()), expected, "{what}");
    }
}

#[tokio::test]
async fn a_session_of_a_session_lasts_an_hour_at_most_and_keeps_what_is_transitive() {
    let fixture = Fixture::new().await;
    let admin = fixture.caller(&fixture.administrator).await;
    let first = fixture.role("first", &trust_user("administrator", "{}"), ALLOW_ALL).await;
    let trusted = trust(&format!(r#""AWS":"arn:aws:iam::{ACCOUNT}:role/first""#), "{}");
    let second = fixture.role("second", &trusted, ALLOW_ALL).await;
    let tagged = AssumeRole {
        tags: vec![("team".into(), "red".into()), ("local".into(), "x".into())],
        transitive_tag_keys: vec!["team".into()],
        source_identity: Some("alice".into()),
        ..request(&first)
    };
    let parent = fixture.session(&fixture.assume(&admin, &tagged).await.unwrap()).await;
    let long = AssumeRole { duration_s: Some(3601), ..request(&second) };
    assert_eq!(code(fixture.assume(&parent, &long).await.unwrap_err()), "ValidationError");
    let conflicting = AssumeRole { tags: vec![("Team".into(), "blue".into())], ..request(&second) };
    assert_eq!(code(fixture.assume(&parent, &conflicting).await.unwrap_err()), "InvalidParameterValue");
    let child = fixture.session(&fixture.assume(&parent, &request(&second)).await.unwrap()).await;
    let session = child.principal.session.as_ref().unwrap();
    assert_eq!(session.tags, [("team".to_owned(), "red".to_owned())]);
    assert_eq!(session.source_identity.as_deref(), Some("alice"));

    fixture.identity.revoke_session(parent.access_key_id().unwrap()).await.unwrap();
    assert!(!fixture.allowed(&child, "ecr:PutImage", &repository("app")), "it ends with its parent");
}

#[tokio::test]
async fn what_a_revoked_session_made_stays_ended_when_that_has_expired() {
    let fixture = Fixture::new().await;
    let admin = fixture.caller(&fixture.administrator).await;
    let first = fixture.role("first", &trust_user("administrator", "{}"), ALLOW_ALL).await;
    let trusted = trust(&format!(r#""AWS":"arn:aws:iam::{ACCOUNT}:role/first""#), "{}");
    let second = fixture.role("second", &trusted, ALLOW_ALL).await;
    let short = AssumeRole { duration_s: Some(900), ..request(&first) };
    let parent = fixture.session(&fixture.assume(&admin, &short).await.unwrap()).await;
    let child = fixture.session(&fixture.assume(&parent, &request(&second)).await.unwrap()).await;
    fixture.identity.revoke_session(parent.access_key_id().unwrap()).await.unwrap();
    fixture.clock.advance(std::time::Duration::from_secs(1000));
    fixture.identity.forget_expired().await.unwrap();
    fixture.write(|_| Ok(())).await;
    assert!(!fixture.allowed(&child, "ecr:PutImage", &repository("app")));
}

#[tokio::test]
async fn the_key_of_a_host_gets_no_session_that_is_no_hosts() {
    let fixture = Fixture::new().await;
    let key = fixture.identity.create_instance_principal("host-1").await.unwrap();
    let host = fixture.caller(&key).await;
    assert_eq!(host.instance(), Some("host-1"));
    assert!(fixture.identity.session_of_user(&host, None).unwrap_err().code.starts_with("AccessDenied"));
}

#[tokio::test]
async fn resource_control_bounds_the_roles_of_tasks_too() {
    let fixture = Fixture::new().await;
    let role = fixture.role("web", &trust(r#""Service":"ecs-tasks.amazonaws.com""#, "{}"), ALLOW_ALL).await;
    let task: Arn = format!("arn:aws:ecs:us-east-1:{ACCOUNT}:task/default/01").parse().unwrap();
    let made = || fixture.identity.task_credentials(TaskRole { role_arn: &role, task_arn: &task });
    assert!(made().await.is_ok());
    let level = Level::new(PolicyKind::ResourceControl, fixture.identity.account_id(), "1-root").to_string();
    let statement = |effect: &str, action: &str| {
        format!(r#"{{"Effect":"{effect}","Principal":"*","Action":"{action}","Resource":"*"}}"#)
    };
    let (allow, deny) = (statement("Allow", "*"), statement("Deny", "sts:AssumeRole"));
    let document = format!(r#"{{"Version":"2012-10-17","Statement":[{allow},{deny}]}}"#);
    fixture.write(move |tx| store::policies::insert_resource_policy(tx, &level, "rcp", &document)).await;
    assert!(matches!(made().await, Err(TaskRoleError::NotTrusted { .. })));
}

#[tokio::test]
async fn only_sessions_of_roles_are_bound_to_an_hour_of_another_role() {
    let fixture = Fixture::new().await;
    let admin = fixture.caller(&fixture.administrator).await;
    let role = fixture.role("first", &trust_user("administrator", "{}"), ALLOW_ALL).await;
    let own = fixture.session(&fixture.identity.session_of_user(&admin, None).unwrap()).await;
    let long = AssumeRole { duration_s: Some(2 * 3600), session_name: "a+b".into(), ..request(&role) };
    assert!(fixture.assume(&own, &long).await.is_ok());
}

#[tokio::test]
async fn conditions_see_the_tags_of_user_and_session() {
    let fixture = Fixture::new().await;
    let tagged = |team: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"ecr:*","Resource":"*","Condition":{{"StringEquals":{{"aws:PrincipalTag/team":"{team}"}}}}}}]}}"#
        )
    };
    let blue = fixture.caller(&fixture.user("blue", &tagged("blue")).await).await;
    let red = fixture.caller(&fixture.user("red", &tagged("red")).await).await;
    assert!(fixture.allowed(&blue, "ecr:PutImage", &repository("app")));
    assert!(!fixture.allowed(&red, "ecr:PutImage", &repository("app")));
    let role = fixture.role("tagged", &trust_user("administrator", "{}"), &tagged("green")).await;
    let admin = fixture.caller(&fixture.administrator).await;
    for (team, allowed) in [("green", true), ("grey", false)] {
        let request = AssumeRole { tags: vec![("team".into(), team.into())], ..request(&role) };
        let session = fixture.session(&fixture.assume(&admin, &request).await.unwrap()).await;
        assert_eq!(fixture.allowed(&session, "ecr:PutImage", &repository("app")), allowed, "{team}");
    }
}

/// The tasks whose ARNs end like this.
struct Ending(&'static str);

impl LiveTasks for Ending {
    fn is_live(&self, task_arn: &str) -> bool {
        task_arn.ends_with(self.0)
    }
}

#[tokio::test]
async fn what_was_made_for_a_task_ends_with_it() {
    let fixture = Fixture::new().await;
    let trusted = format!(r#""Service":"ecs-tasks.amazonaws.com","AWS":"arn:aws:iam::{ACCOUNT}:root""#);
    let role = fixture.role("web", &trust(&trusted, "{}"), ALLOW_ALL).await;
    let next = fixture.role("next", &trust(&trusted, "{}"), ALLOW_ALL).await;
    let mut sessions = Vec::new();
    for id in ["01", "02"] {
        let task: Arn = format!("arn:aws:ecs:us-east-1:{ACCOUNT}:task/default/{id}").parse().unwrap();
        let made = fixture.identity.task_credentials(TaskRole { role_arn: &role, task_arn: &task }).await;
        let session = fixture.session(&made.unwrap()).await;
        let further = fixture.session(&fixture.assume(&session, &request(&next)).await.unwrap()).await;
        sessions.push((session, further));
    }
    let allowed = |caller| fixture.allowed(caller, "ecr:PutImage", &repository("app"));
    for (session, further) in &sessions {
        assert!(allowed(session) && allowed(further), "nobody says that the tasks are over");
    }
    fixture.identity.follow_tasks(std::sync::Arc::new(Ending("02")));
    let live: Vec<_> =
        sessions.iter().map(|(session, further)| (allowed(session), allowed(further))).collect();
    assert_eq!(live, [(false, false), (true, true)]);
}

#[tokio::test]
async fn a_task_gets_a_role_only_if_the_role_trusts_ecs_for_that_task() {
    let fixture = Fixture::new().await;
    let service = r#""Service":"ecs-tasks.amazonaws.com""#;
    let task: Arn = format!("arn:aws:ecs:us-east-1:{ACCOUNT}:task/default/0123456789abcdef").parse().unwrap();
    let source = |arn: &str, account: &str| {
        format!(
            r#"{{"ArnLike":{{"aws:SourceArn":"{arn}"}},"StringEquals":{{"aws:SourceAccount":"{account}"}}}}"#
        )
    };
    let own = format!("arn:aws:ecs:us-east-1:{ACCOUNT}:*");
    for (name, trusted, allowed) in [
        ("plain", trust(service, "{}"), true),
        ("bound", trust(service, &source(&own, ACCOUNT)), true),
        ("foreign-account", trust(service, &source(&own, "111111111111")), false),
        ("foreign-arn", trust(service, &source("arn:aws:ecs:us-east-1:111111111111:*", ACCOUNT)), false),
        ("another-service", trust(r#""Service":"ec2.amazonaws.com""#, "{}"), false),
        ("users-only", trust_user("administrator", "{}"), false),
    ] {
        let role = fixture.role(name, &trusted, &policy("Allow", "ecr:*", "*")).await;
        let made = fixture.identity.task_credentials(TaskRole { role_arn: &role, task_arn: &task }).await;
        assert_eq!(made.is_ok(), allowed, "{name}");
        let Ok(credentials) = made else { continue };
        let session = fixture.session(&credentials).await;
        assert_eq!(session.arn(), format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/0123456789abcdef"));
        assert!(fixture.allowed(&session, "ecr:PutImage", &repository("app")));
    }
    let nowhere = format!("arn:aws:iam::{ACCOUNT}:role/nowhere").parse().unwrap();
    let missing = fixture.identity.task_credentials(TaskRole { role_arn: &nowhere, task_arn: &task }).await;
    assert!(matches!(missing, Err(TaskRoleError::NotTrusted { .. })));
    let line = fixture.audit_lines().await.into_iter().find(|line| line["userId"] == task.as_str()).unwrap();
    assert_eq!(line["principal"], "ecs-tasks.amazonaws.com");
}

#[tokio::test]
async fn passing_a_role_needs_the_right_to_pass_it_to_that_service() {
    let fixture = Fixture::new().await;
    let conditional = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:PassRole","Resource":"arn:aws:iam::000000000000:role/tasks/*","Condition":{"StringEquals":{"iam:PassedToService":"ecs-tasks.amazonaws.com"}}}]}"#;
    let caller = fixture.caller(&fixture.user("alice", conditional).await).await;
    for (role, service, allowed) in [
        ("tasks/web", "ecs-tasks.amazonaws.com", true),
        ("tasks/web", "ecs.amazonaws.com", false),
        ("admin", "ecs-tasks.amazonaws.com", false),
    ] {
        let role = format!("arn:aws:iam::{ACCOUNT}:role/{role}").parse().unwrap();
        let check: Check = Identity::pass_role_check(&role, service);
        let decided = fixture.identity.authorize(&fixture.ctx(), &caller, "RunTask", &check);
        assert_eq!(decided.is_ok(), allowed, "{role} {service}");
    }
}

#[test]
fn no_session_policy_widens_a_role() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (fixture, admin) = runtime.block_on(async {
        let fixture = Fixture::new().await;
        let admin = fixture.caller(&fixture.administrator).await;
        (fixture, admin)
    });
    let words = prop::sample::select(vec!["ecr:PutImage", "ecr:Batch*", "ecr:*", "*", "ecs:RunTask"]);
    let resources =
        prop::sample::select(vec!["*", "arn:aws:ecr:*:*:repository/a*", "arn:aws:ecr:*:*:repository/b"]);
    let effects = prop::bool::weighted(0.8).prop_map(|allow| if allow { "Allow" } else { "Deny" });
    let one =
        (effects, words, resources).prop_map(|(effect, action, resource)| policy(effect, action, resource));
    let cases = (one.clone(), prop::option::of(one), Just(()), any::<u32>());
    let mut runner = proptest::test_runner::TestRunner::new(proptest::test_runner::Config {
        cases: 24,
        failure_persistence: None,
        ..Default::default()
    });
    let result = runner.run(&cases, |(of_role, of_session, (), number)| {
        runtime.block_on(async {
            let role =
                fixture.role(&format!("r{number}"), &trust_user("administrator", "{}"), &of_role).await;
            let plain = fixture.session(&fixture.assume(&admin, &request(&role)).await.unwrap()).await;
            let bounded = AssumeRole { policy: of_session, ..request(&role) };
            let bounded = fixture.session(&fixture.assume(&admin, &bounded).await.unwrap()).await;
            for action in ["ecr:PutImage", "ecr:BatchGetImage", "ecs:RunTask", "iam:CreateUser"] {
                for resource in [repository("a"), repository("b"), repository("c")] {
                    let (by_role, by_session) = (
                        fixture.allowed(&plain, action, &resource),
                        fixture.allowed(&bounded, action, &resource),
                    );
                    assert!(by_role || !by_session, "{action} {resource}: {of_role}");
                }
            }
        });
        Ok(())
    });
    result.unwrap();
}
