//! The check of a directory, file by file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::{PolicyFiles, check, check_texts};

const MARKER: (&str, &str) = ("berth-policies.json", r#"{"format": 1, "account": "000000000000"}"#);
const POLICY: &str =
    r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}}"#;
const TRUST: &str = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole",
    "Principal": {"AWS": "000000000000"}}}"#;

/// A directory with the files given, and the marker.
pub(super) fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files.iter().chain(&[MARKER]) {
        write(folder.path(), name, text);
    }
    folder
}

pub(super) fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn complaints(files: &[(&str, &str)]) -> Vec<String> {
    let texts: BTreeMap<String, String> =
        files.iter().chain(&[MARKER]).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    match check_texts(&texts) {
        Ok(_) => Vec::new(),
        Err(findings) => findings.iter().map(ToString::to_string).collect(),
    }
}

fn example() -> PolicyFiles {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")).unwrap()
}

#[test]
fn the_example_is_sound() {
    let files = example();
    assert_eq!(files.users.len(), 2);
    assert_eq!(files.users[0].name, "alice");
    assert_eq!(files.users[0].groups, ["developers"]);
    let roles: Vec<(&str, &str)> =
        files.roles.iter().map(|role| (role.path.as_str(), role.name.as_str())).collect();
    assert_eq!(roles, [("/ci/", "github-actions"), ("/tasks/", "web")]);
    assert_eq!(files.providers[0].name, "token.actions.githubusercontent.com");
    assert_eq!(files.policies[0].arn, "arn:aws:iam::000000000000:policy/push-to-own-team");
    assert_eq!(files.repositories[0].repository.as_str(), "public/busybox");
    let boundary = "arn:aws:iam::aws:policy/BerthReadOnly";
    assert_eq!(files.users[1].boundary.as_deref(), Some(boundary));
    let warnings: Vec<_> = files.warnings.iter().map(ToString::to_string).collect();
    let expected = "repositories/public/busybox.json:3:18: warning: this allows everyone, strangers without \
                    credentials too";
    assert_eq!(warnings, [expected]);
}

#[test]
fn a_directory_without_its_marker_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let complaint = |path: &Path| check(path).unwrap_err()[0].to_string();
    assert!(complaint(folder.path()).contains("berth-policies.json:1:1: error: is missing"));
    assert_eq!(complaint(&folder.path().join("gone")), "error: there is no such directory");
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(complaint(&folder.path().join("file")).starts_with("error: the directory cannot be read"));
    fs::remove_file(folder.path().join("file")).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything; for others the folder is now closed.
    assert!(complaint(folder.path()).contains("error"));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn the_marker_states_format_and_account() {
    for (text, expected) in [
        ("{}", "\"account\" is missing"),
        (r#"{"format": 2, "account": "000000000000"}"#, "this Berth reads format 1"),
        (r#"{"format": "1", "account": "000000000000"}"#, "\"format\" is a whole number"),
        (r#"{"format": 1, "account": 12}"#, "\"account\" holds a string"),
        (r#"{"format": 1, "account": "12"}"#, "an account is twelve digits"),
        (r#"{"format": 1, "account": "000000000000", "x": 1}"#, "\"x\" means nothing here (format, account)"),
        (
            r#"{"format": 1, "Account": "000000000000"}"#,
            "\"Account\" means nothing here (it is written account)",
        ),
        ("[]", "is an object, not a list"),
        ("", "the text is empty"),
    ] {
        let texts = [(MARKER.0.to_owned(), text.to_owned())].into_iter().collect();
        let findings = check_texts(&texts).unwrap_err();
        assert!(
            findings.iter().any(|finding| finding.to_string().contains(expected)),
            "{text}: {findings:?}"
        );
    }
}

#[test]
fn every_error_of_every_file_is_reported() {
    let found = complaints(&[
        (
            "users/alice.json",
            "{\n  \"groups\": [\"none\", \"Dev\"],\n  \"policies\": [\"push\", \"berthpullonly\", \"no\"],\n  \"extra\": 1\n}",
        ),
        ("groups/dev.json", "{\"policies\": \"push\"}"),
        ("policies/push.json", "{\"Version\": \"2012-10-17\",\n \"Statement\": {\"Effect\": \"Maybe\"}}"),
        ("policies/pull.json", POLICY),
        ("roles/r.json", "{}"),
        ("repositories/UPPER.json", POLICY),
        ("notes/x.json", "{}"),
        ("x.json", "{}"),
    ]);
    let expected = [
        "groups/dev.json:1:14: error: \"policies\" is a list of strings, not a string",
        "notes/x.json:1:1: error: belongs to no folder that Berth knows: users, groups, roles, policies, repositories, serviceControlPolicies, resourceControlPolicies, oidcProviders, accounts",
        "policies/push.json:2:15: error: the statement has neither Action nor NotAction",
        "policies/push.json:2:15: error: the statement has neither Resource nor NotResource",
        "policies/push.json:2:26: error: Effect is \"Allow\" or \"Deny\"",
        "repositories/UPPER.json:1:1: error: \"UPPER\" is not the name of a repository",
        "repositories/UPPER.json:1:40: error: a repository policy needs a Principal",
        "repositories/UPPER.json:1:79: error: a repository policy has no Resource: it speaks of what it belongs to",
        "roles/r.json:1:1: error: \"trustPolicy\" is missing",
        "users/alice.json:2:14: error: there is no groups/…/none.json",
        "users/alice.json:2:22: error: the group is written \"dev\"",
        "users/alice.json:3:16: error: there is no policies/…/push.json, and Berth ships no policy of that name",
        "users/alice.json:3:24: error: the policy is written \"BerthPullOnly\"",
        "users/alice.json:3:41: error: there is no policies/…/no.json, and Berth ships no policy of that name",
        "users/alice.json:4:3: error: \"extra\" means nothing here (groups, policies, inlinePolicies, permissionsBoundary, tags, accessKeys)",
        "x.json:1:1: error: belongs to no folder that Berth knows: users, groups, roles, policies, repositories, serviceControlPolicies, resourceControlPolicies, oidcProviders, accounts",
    ];
    assert_eq!(found, expected);
}

#[test]
fn names_are_unique_without_case() {
    let role = format!("{{\"trustPolicy\": {TRUST}}}");
    let found = complaints(&[
        ("users/alice.json", "{}"),
        ("users/team/Alice.json", "{}"),
        ("groups/a.json", "{}"),
        ("groups/A.json", "{}"),
        ("roles/a.json", &role),
        ("roles/tasks/A.json", &role),
        ("policies/p.json", POLICY),
        ("policies/x/P.json", POLICY),
        ("policies/berthPullOnly.json", POLICY),
    ]);
    assert_eq!(found.iter().filter(|complaint| complaint.contains("a second ")).count(), 4, "{found:?}");
    assert!(found.iter().any(|complaint| complaint.contains("Berth ships a policy \"berthPullOnly\"")));
    // A user, a role and a group may share a name.
    assert_eq!(
        complaints(&[("users/a.json", "{}"), ("groups/a.json", "{}"), ("roles/a.json", &role)]),
        [""; 0]
    );
}

#[test]
fn files_that_nobody_can_mean_are_refused_quickly() {
    let folder = tempfile::tempdir().unwrap();
    let (marker, text) = MARKER;
    std::fs::write(folder.path().join(marker), text).unwrap();
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    let statement = r#"{"Effect":"Allow","Action":"ecr:*","Resource":"*"}"#;
    let policy = |statements: &str| format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    let nested = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let action = |action: &str| policy(&statement.replace("\"ecr:*\"", action));
    for (what, text, expected) in [
        ("ten mebibytes", action(&format!("\"{}\"", "a".repeat(10 << 20))), "is larger than"),
        ("a hundred thousand statements", policy(&vec![statement; 100_000].join(",")), "is larger than"),
        ("ten thousand statements", policy(&vec![statement; 10_000].join(",")), "bytes is too large"),
        ("a thousand statements", policy(&vec![statement; 1_000].join(",")), "at most 10240 characters"),
        ("deep lists", action(&nested), "levels"),
        ("a list in a list", action(r#"[["ecr:*"]]"#), "string"),
        ("another member", policy(&statement.replace("\"Effect\"", "\"Efect\":1,\"Effect\"")), "Efect"),
        (
            "duplicate keys",
            policy(&statement.replace("\"Effect\"", "\"Effect\":\"Deny\",\"Effect\"")),
            "a second time",
        ),
        ("letters beyond Latin-1", action("\"ecr:\u{4e2d}\""), "\u{4e2d}"),
    ] {
        std::fs::write(folder.path().join("policies/p.json"), text).unwrap();
        let begin = std::time::Instant::now();
        let findings = check(folder.path()).unwrap_err();
        assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{what} took {:?}", begin.elapsed());
        let found: Vec<String> =
            findings.iter().map(|finding| finding.to_string().chars().take(300).collect()).collect();
        assert!(found.iter().any(|finding| finding.contains(expected)), "{what}: {found:?}");
    }
}

#[test]
fn policies_are_named_by_name_or_arn() {
    let user = |policy: &str| {
        let text = format!("{{\"policies\": [\"{policy}\"], \"permissionsBoundary\": \"{policy}\"}}");
        complaints(&[("users/a.json", &text), ("policies/team/p.json", POLICY)]).len()
    };
    assert_eq!(user("p"), 0);
    assert_eq!(user("arn:aws:iam::000000000000:policy/team/p"), 0);
    assert_eq!(user("BerthReadOnly"), 0);
    assert_eq!(user("arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"), 0);
    assert_eq!(user("arn:aws:iam::000000000000:policy/p"), 2);
    assert_eq!(user("arn:aws:iam::aws:policy/Nothing"), 2);
    assert_eq!(user("team/p"), 2);
}

#[test]
fn bounds_are_those_of_iam() {
    let long = "a".repeat(65);
    let statement = r#"{"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}"#;
    let large = |count: usize| format!("{{\"Statement\": [{}]}}", vec![statement; count].join(","));
    for (file, text, expected) in [
        (format!("users/{long}.json"), "{}".to_owned(), "is not a name"),
        ("users/a b.json".to_owned(), "{}".to_owned(), "is not a name"),
        (
            "users/a.json".to_owned(),
            format!("{{\"inlinePolicies\": {{\"p\": {}}}}}", large(40)),
            "at most 2048 characters",
        ),
        (
            "groups/a.json".to_owned(),
            format!("{{\"inlinePolicies\": {{\"p\": {}}}}}", large(110)),
            "at most 5120 characters",
        ),
        ("policies/a.json".to_owned(), large(130), "at most 6144 characters"),
        ("users/a.json".to_owned(), r#"{"tags": {"": "x"}}"#.to_owned(), "a tag has a key of 1 to 128"),
        ("users/a.json".to_owned(), r#"{"tags": {"a": "x", "A": "y"}}"#.to_owned(), "a second tag"),
        ("users/a.json".to_owned(), r#"{"tags": {"a": 1}}"#.to_owned(), "a tag's value is a string"),
        ("users/a.json".to_owned(), r#"{"groups": ["g", "g"]}"#.to_owned(), "a second time"),
        (
            "roles/a.json".to_owned(),
            format!("{{\"trustPolicy\": {TRUST}, \"maxSessionDuration\": 60}}"),
            "3600 to 43200 seconds",
        ),
        (
            "roles/a.json".to_owned(),
            format!("{{\"trustPolicy\": {POLICY}}}"),
            "a trust policy needs a Principal",
        ),
        (
            "users/a.json".to_owned(),
            r#"{"groups": [], "groups": []}"#.to_owned(),
            "stands here a second time",
        ),
    ] {
        let found = complaints(&[(&file, &text)]);
        assert!(found.iter().any(|complaint| complaint.contains(expected)), "{file} {text}: {found:?}");
    }
}

fn warnings(files: &[(&str, &str)]) -> Vec<String> {
    let texts: BTreeMap<String, String> =
        files.iter().chain(&[MARKER]).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    check_texts(&texts).unwrap().warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_sound_and_questionable_is_told_with_its_place() {
    let found = warnings(&[
        ("policies/pull.json", POLICY),
        (
            "users/a.json",
            "{\"policies\": [\"pull\"], \"inlinePolicies\": {\n\"one\": {\"Statement\": {\"Effect\": \"Allow\", \
             \"Action\": \"ecr:PutImage\", \"Resource\": \"arn:aws:ecr\"}},\n\"two\": {\"Statement\": {\"Effect\": \
             \"Allow\", \"Action\": \"ecs:RunTask\", \"Resource\": \"arn:aws:ecr\"}}}}",
        ),
    ]);
    assert_eq!(
        found,
        [
            "users/a.json:2:22: warning: this statement adds nothing: statement 1 of policies/pull.json:1 covers \
             all of it; remove one",
            "users/a.json:3:79: warning: no action of this statement is ever about arn:aws:ecr; ecs:RunTask is \
             about arn:*:ecs:*:*:task-definition/*:*",
        ]
    );
    let both = r#"{"inlinePolicies": {"one": POLICY, "two": POLICY}}"#.replace("POLICY", POLICY);
    let found = warnings(&[("users/a.json", &both)]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("statement 1 of the inline policy \"one\" covers all of it"), "{found:?}");
}

#[test]
fn a_secret_never_stands_in_a_policy_file() {
    for member in ["secret", "secretAccessKey", "SecretAccessKey", "password"] {
        let text = format!(r#"{{"accessKeys": [{{"accessKeyId": "AKIAALICE0000000", "{member}": "x"}}]}}"#);
        let found = complaints(&[("users/a.json", &text)]).join("\n");
        assert!(found.contains("a secret never stands in a policy file"), "{found}");
        assert!(found.contains("an access key has \"secretFile\", or \"sealedSecret\""), "{found}");
    }
}

#[test]
fn what_is_not_sealed_is_no_sealed_secret() {
    let user =
        |members: &str| format!(r#"{{"accessKeys": [{{"accessKeyId": "AKIAALICE0000000", {members}}}]}}"#);
    for (members, expected) in [
        (
            r#""sealedSecret": "0123456789012345678901234567890123456789""#,
            "not what `berth secret seal` prints",
        ),
        (r#""sealedSecret": "berth-sealed:AAAA""#, "not what `berth secret seal` prints"),
        (r#""sealedSecret": "berth-sealed:AAAA", "secretFile": "/s""#, "an access key has"),
        (r#""active": true"#, "an access key has"),
    ] {
        let found = complaints(&[("users/a.json", &user(members))]).join("\n");
        assert!(found.contains(expected), "{members}: {found}");
    }
}

#[test]
fn providers_are_well_formed_and_unique() {
    let good = r#"{"url": "https://token.example/path", "clientIds": ["berth"], "tags": {"a": "b"}}"#;
    assert_eq!(complaints(&[("oidcProviders/ci.json", good)]), [""; 0]);
    let twice = complaints(&[("oidcProviders/a.json", good), ("oidcProviders/b.json", good)]);
    assert_eq!(
        twice,
        [
            "oidcProviders/b.json:1:1: error: the provider of token.example/path stands in oidcProviders/a.json already"
        ]
    );
    for text in [
        "{}",
        r#"{"url": "http://token.example", "clientIds": ["berth"]}"#,
        r#"{"url": "https://token.example?x", "clientIds": ["berth"]}"#,
        r#"{"url": "https://user@token.example", "clientIds": ["berth"]}"#,
        r#"{"url": "https://", "clientIds": ["berth"]}"#,
        r#"{"url": "https://token.example", "clientIds": []}"#,
        r#"{"url": "https://token.example", "clientIds": ["a b"]}"#,
        r#"{"url": "https://token.example", "clientIds": ["a"], "thumbprints": ["x"]}"#,
        r#"{"url": "https://token.example", "clientIds": ["a"], "audience": "x"}"#,
    ] {
        assert!(!complaints(&[("oidcProviders/ci.json", text)]).is_empty(), "{text}");
    }
    assert!(!complaints(&[("accounts/111122223333/oidcProviders/ci.json", good)]).is_empty());
}

#[test]
fn access_key_ids_are_well_formed_and_unique() {
    let user = |id: &str| format!(r#"{{"accessKeys": [{{"accessKeyId": "{id}", "secretFile": "/s"}}]}}"#);
    let good = user("AKIAALICE0000000");
    assert_eq!(complaints(&[("users/a.json", &good)]), [""; 0]);
    let twice = complaints(&[("users/a.json", &good), ("users/b.json", &good)]);
    assert_eq!(twice, ["users/b.json:1:33: error: this access key id stands in users/a.json already"]);
    for id in ["AKIA", "akiaalice0000000", "AKIA-LICE0000000", "ASIAALICE0000000"] {
        assert_eq!(complaints(&[("users/a.json", &user(id))]).len(), 1, "{id}");
    }
}

#[test]
fn secrets_lie_outside_and_are_closed_to_others() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("alice");
    fs::write(&secret, "s".repeat(40)).unwrap();
    let user = |path: &str| {
        format!(r#"{{"accessKeys": [{{"accessKeyId": "AKIAALICE0000000", "secretFile": "{path}"}}]}}"#)
    };
    let complaint = |path: &str| {
        let folder = directory(&[("users/a.json", &user(path))]);
        write(folder.path(), "secrets/a", "s");
        match check(folder.path()) {
            Ok(files) => files.warnings.iter().map(ToString::to_string).collect::<String>(),
            Err(findings) => findings.iter().map(ToString::to_string).collect(),
        }
    };
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(complaint(secret.to_str().unwrap()).contains("error: "));
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(complaint(secret.to_str().unwrap()), "");
    assert!(complaint("secrets/a").contains("error: "));
    assert!(complaint("secrets/missing").contains("would lie inside"));
    assert!(complaint("/nowhere/a").contains("warning: /nowhere/a cannot be read"));
}

#[test]
fn links_stay_within_the_directory_and_dots_are_not_seen() {
    let folder =
        directory(&[("policies/p.json", POLICY), (".git/config.json", "broken"), ("README.md", "text")]);
    symlink("p.json", folder.path().join("policies/q.json")).unwrap();
    let files = check(folder.path()).unwrap();
    assert_eq!(files.policies.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>(), ["p", "q"]);
    let outside = directory(&[]);
    symlink(outside.path(), folder.path().join("users")).unwrap();
    assert!(check(folder.path()).unwrap_err()[0].to_string().contains("leads out of the policy directory"));
}

#[test]
fn only_regular_files_are_read_and_links_in_circles_come_to_an_end() {
    let folder = directory(&[("policies/p.json", POLICY)]);
    for link in ["a", "b", "c"] {
        symlink(".", folder.path().join("policies").join(link)).unwrap();
    }
    assert!(check(folder.path()).is_err());
    let folder = directory(&[]);
    let socket = folder.path().join("odd.json");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(
        check(folder.path()).unwrap_err()[0].to_string(),
        "odd.json:1:1: error: is not a regular file"
    );
    fs::remove_file(socket).unwrap();
    fs::create_dir(folder.path().join("odd.json")).unwrap();
    assert!(check(folder.path()).is_ok(), "a folder of that name is a folder");
}

#[test]
fn the_hash_tells_sets_apart() {
    let hash = |text: &str| {
        let texts =
            [(MARKER.0.to_owned(), MARKER.1.to_owned()), ("policies/p.json".to_owned(), text.to_owned())];
        check_texts(&texts.into_iter().collect()).unwrap().content_sha256
    };
    assert_eq!(hash(POLICY), hash(POLICY));
    assert_ne!(hash(POLICY), hash(&format!("{POLICY} ")));
}
