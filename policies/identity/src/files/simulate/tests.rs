use std::path::Path;

use super::{Question, SimulateError, Simulation, simulate};
use crate::files::{PolicyFiles, check};

fn example() -> PolicyFiles {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")).unwrap()
}

fn ask(
    principal: &str,
    action: &str,
    resource: &str,
    context: &[(&str, &str)],
) -> Result<Simulation, SimulateError> {
    let context: Vec<_> =
        context.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let region = "us-east-1".parse().unwrap();
    let question = Question {
        principal,
        action,
        resource,
        context: &context,
        region: &region,
        now_ms: 1_793_491_200_000,
    };
    simulate(&example(), &question)
}

#[test]
fn a_group_s_policy_with_the_user_s_tag_allows() {
    let answer = ask("user/alice", "ecr:PutImage", "repository/web/app", &[]).unwrap();
    assert!(answer.allowed);
    let decided_by = answer.decided_by.as_ref().unwrap();
    assert_eq!(decided_by.file.as_deref(), Some("policies/push-to-own-team.json"));
    assert_eq!((decided_by.sid.as_deref(), decided_by.line), (Some("PushToOwnTeam"), 10));
    assert_eq!(
        answer.text(),
        "ALLOWED\n  arn:aws:iam::000000000000:user/alice may ecr:PutImage on \
         arn:aws:ecr:us-east-1:000000000000:repository/web/app\n  because \
         policies/push-to-own-team.json:10 (Sid PushToOwnTeam) allows it\n\
         statements that speak of ecr:PutImage:\n\
         * Allow policies/push-to-own-team.json:10 (Sid PushToOwnTeam)  matches\n  \
         (10 more speak of other actions)"
    );
}

#[test]
fn another_team_s_repository_stays_closed_and_says_why() {
    let answer = ask("user/alice", "ecr:PutImage", "repository/ops/app", &[]).unwrap();
    assert_eq!(answer.decision, "implicitDeny");
    assert_eq!(answer.because, "no policy of the principal or its groups allows it");
    assert_eq!(answer.statements[0].reason, "speaks of other resources");
    // What a question gives stands in for what the files say.
    let moved = ask("user/alice", "ecr:PutImage", "repository/ops/app", &[("aws:PrincipalTag/Team", "ops")]);
    assert!(moved.unwrap().allowed);
}

#[test]
fn a_deny_wins_over_root_s_policies_too() {
    let answer = ask("user/alice", "ecr:BatchDeleteImage", "repository/web/release", &[]).unwrap();
    assert_eq!(answer.decision, "explicitDeny");
    assert!(answer.because.contains("(Sid KeepReleases) denies it"), "{}", answer.because);
    assert!(answer.text().starts_with("DENIED by a statement\n"));
}

#[test]
fn boundaries_repositories_and_trust_policies_take_part() {
    let robot = |action| ask("user/robot", action, "repository/web/app", &[]).unwrap();
    assert!(robot("ecr:BatchGetImage").allowed);
    assert!(!robot("ecr:PutImage").allowed);
    let stranger = |name| ask("anonymous", "ecr:BatchGetImage", name, &[]).unwrap();
    assert!(stranger("repository/public/busybox").allowed);
    assert_eq!(stranger("repository/web/app").decision, "implicitDeny");
    let assume = |context: &[(&str, &str)]| {
        ask("service/ecs-tasks.amazonaws.com", "sts:AssumeRole", "role/tasks/web", context).unwrap()
    };
    let refused = assume(&[]);
    assert_eq!(
        refused.statements[0].reason,
        "needs StringEquals aws:SourceAccount [\"000000000000\"], and aws:SourceAccount is missing"
    );
    assert_eq!(
        refused.notes,
        ["a real request may have aws:SourceAccount; give it with --context aws:SourceAccount=VALUE"]
    );
    let taken = assume(&[("aws:SourceAccount", "000000000000")]);
    assert!(taken.allowed);
    assert_eq!(taken.decided_by.unwrap().file.as_deref(), Some("roles/tasks/web.json"));
}

#[test]
fn principals_are_named_in_many_ways() {
    let session = "arn:aws:sts::000000000000:assumed-role/web/one";
    for (name, expected) in [
        ("user/alice", "arn:aws:iam::000000000000:user/alice"),
        ("arn:aws:iam::000000000000:user/alice", "arn:aws:iam::000000000000:user/alice"),
        ("role/web", "arn:aws:sts::000000000000:assumed-role/web/simulated"),
        ("role/tasks/web", "arn:aws:sts::000000000000:assumed-role/web/simulated"),
        ("role/tasks/web/one", session),
        ("role/web/one", session),
        (session, session),
        ("root", "arn:aws:iam::000000000000:root"),
    ] {
        let answer = ask(name, "ecr:BatchGetImage", "repository/web/plugins", &[]).unwrap();
        assert_eq!(answer.principal, expected);
        assert!(answer.allowed, "{name}");
    }
    for name in ["user/nobody", "role/nobody", "alice", "arn:aws:iam::111111111111:user/alice", ""] {
        assert!(ask(name, "ecr:PutImage", "*", &[]).is_err(), "{name}");
    }
    assert!(ask("user/alice", "ecr:PutImage", "app", &[]).is_err());
}

#[test]
fn lists_are_lists_by_definition_or_by_repetition() {
    let answer = ask("user/robot", "ecs:RunTask", "cluster/default", &[("berth:HostPaths", "/srv")]).unwrap();
    assert_eq!(answer.decision, "explicitDeny");
    let context = answer.context.iter().find(|(key, _)| key == "berth:hostpaths").unwrap();
    assert_eq!(context.1, ["/srv"]);
}

#[test]
fn an_answer_is_json_too() {
    let answer = ask("user/alice", "ecr:PutImage", "repository/web/app", &[]).unwrap();
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["allowed"], true);
    assert_eq!(json["decidedBy"]["sid"], "PushToOwnTeam");
    assert_eq!(json["statements"][0]["matches"], true);
}
