//! What is made, found, bounded and taken away again; limits and conflicts.

use super::{ACCOUNT_ARN, Client, between, encoded};
use crate::error::AuthenticationError;
use crate::store::Owner;
use crate::testing::{ALLOW_ALL, Fixture, policy, repository, session_signing, signing, trust};
use crate::{AssumeRole, store};
use registry_aws::Credentials;

fn credentials(body: &str) -> Credentials {
    Credentials::new(between(body, "AccessKeyId"), between(body, "SecretAccessKey"))
}

fn code(code: &str, status: u16) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_user_lives_from_its_making_to_its_end() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    let made =
        admin.ask("CreateUser&UserName=Alice&Path=/team/&Tags.member.1.Key=k&Tags.member.1.Value=v").await;
    assert_eq!(between(&made, "Arn"), format!("{ACCOUNT_ARN}:user/team/Alice"));
    assert!(between(&made, "UserId").starts_with("AIDA"));
    assert_eq!(admin.refused("CreateUser&UserName=alice").await, code("EntityAlreadyExists", 409));
    let document = encoded(&policy("Allow", "ecr:PutImage", "*"));
    admin.ask(&format!("PutUserPolicy&UserName=alice&PolicyName=push&PolicyDocument={document}")).await;
    let key = credentials(&admin.ask("CreateAccessKey&UserName=alice").await);
    let caller = fixture.authenticate(&key).await.unwrap();
    assert!(fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    assert!(!fixture.allowed(&caller, "ecr:ListImages", &repository("app")));

    fixture.clock.advance(std::time::Duration::from_secs(1));
    fixture.identity.refresh().await.unwrap();
    let second = credentials(&admin.ask("CreateAccessKey&UserName=alice").await);
    fixture.clock.advance(std::time::Duration::from_secs(1));
    fixture.identity.refresh().await.unwrap();
    assert_eq!(admin.refused("CreateAccessKey&UserName=alice").await, code("LimitExceeded", 409));
    let made = fixture.identity.session_of_user(&caller, None).unwrap();
    let session = fixture.session(&made).await;
    assert!(fixture.allowed(&session, "ecr:PutImage", &repository("app")));
    admin.ask("UpdateUser&UserName=alice&NewUserName=alicia&NewPath=/").await;
    assert_eq!(admin.refused("GetUser&UserName=alice").await, code("NoSuchEntity", 404));
    assert!(!fixture.allowed(&session, "ecr:PutImage", &repository("app")), "it knows the old name");
    let caller = fixture.authenticate(&key).await.unwrap();
    assert_eq!(caller.arn(), format!("{ACCOUNT_ARN}:user/alicia"));
    assert!(fixture.allowed(&caller, "ecr:PutImage", &repository("app")), "the key stays the user's");
    assert_eq!(admin.refused("DeleteUser&UserName=alicia").await, code("DeleteConflict", 409));
    let disable =
        format!("UpdateAccessKey&UserName=alicia&AccessKeyId={}&Status=Inactive", key.access_key_id);
    admin.ask(&disable).await;
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    assert!(matches!(fixture.authenticate(&key).await, Err(AuthenticationError::InvalidToken)));
    for id in [&key.access_key_id, &second.access_key_id] {
        admin.ask(&format!("DeleteAccessKey&UserName=alicia&AccessKeyId={id}")).await;
    }
    assert!(matches!(fixture.authenticate(&second).await, Err(AuthenticationError::Mismatch)));
    assert_eq!(admin.refused("DeleteUser&UserName=alicia").await, code("DeleteConflict", 409));
    admin.ask("DeleteUserPolicy&UserName=alicia&PolicyName=push").await;
    admin.ask("DeleteUser&UserName=alicia").await;
    assert_eq!(admin.refused("DeleteUser&UserName=alicia").await, code("NoSuchEntity", 404));
}

#[tokio::test]
async fn another_name_needs_the_right_to_that_name_too() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    for form in ["CreateUser&UserName=dev&Path=/dev/", "CreateGroup&GroupName=devs&Path=/dev/"] {
        admin.ask(form).await;
    }
    let limited = policy("Allow", "iam:*", &format!("{ACCOUNT_ARN}:*/dev/*"));
    let limited =
        Client { fixture: &fixture, credentials: Some(signing(&fixture.user("limited", &limited).await)) };
    for form in [
        "UpdateUser&UserName=dev&NewUserName=boss&NewPath=/",
        "UpdateUser&UserName=dev&NewPath=/bosses/",
        "UpdateGroup&GroupName=devs&NewGroupName=bosses&NewPath=/",
    ] {
        assert_eq!(limited.refused(form).await, code("AccessDenied", 403), "{form}");
    }
    limited.ask("UpdateUser&UserName=dev&NewUserName=dev2").await;
    limited.ask("UpdateGroup&GroupName=devs&NewGroupName=devs2&NewPath=/dev/old/").await;
}

#[tokio::test]
async fn a_change_is_recorded_with_the_line_that_allowed_it() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    admin.ask("CreateUser&UserName=alice").await;
    admin.ask("CreateAccessKey&UserName=alice").await;
    let lines = fixture.audit_lines().await;
    let of = |operation: &str| lines.iter().find(|line| line["operation"] == operation).unwrap().clone();
    assert_eq!(of("CreateUser")["resource"], format!("{ACCOUNT_ARN}:user/alice"));
    assert_eq!(of("CreateUser")["action"], "iam:CreateUser");
    assert_eq!(of("CreateAccessKey")["decision"], "allow");
}

#[tokio::test]
async fn groups_give_their_policies_to_members() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    let key = fixture.user("alice", &policy("Allow", "ecr:ListImages", "*")).await;
    let caller = fixture.caller(&key).await;
    admin.ask("CreateGroup&GroupName=pushers").await;
    let document = encoded(&policy("Allow", "ecr:PutImage", "*"));
    admin.ask(&format!("PutGroupPolicy&GroupName=pushers&PolicyName=p&PolicyDocument={document}")).await;
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    admin.ask("AddUserToGroup&GroupName=pushers&UserName=alice").await;
    assert!(fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    assert_eq!(between(&admin.ask("GetGroup&GroupName=pushers").await, "UserName"), "alice");
    assert_eq!(between(&admin.ask("ListGroupsForUser&UserName=alice").await, "GroupName"), "pushers");
    assert_eq!(admin.refused("DeleteGroup&GroupName=pushers").await, code("DeleteConflict", 409));
    admin.ask("RemoveUserFromGroup&GroupName=pushers&UserName=alice").await;
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    let again = admin.refused("RemoveUserFromGroup&GroupName=pushers&UserName=alice").await;
    assert_eq!(again, code("NoSuchEntity", 404));
    admin.ask("DeleteGroupPolicy&GroupName=pushers&PolicyName=p").await;
    admin.ask("DeleteGroup&GroupName=pushers").await;
}

#[tokio::test]
async fn the_default_version_of_a_policy_decides() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    let key = fixture.user("alice", &policy("Allow", "x:y", "*")).await;
    let caller = fixture.caller(&key).await;
    let document = |action: &str| encoded(&policy("Allow", action, "*"));
    let arn = format!("{ACCOUNT_ARN}:policy/registry/push");
    let create =
        format!("CreatePolicy&PolicyName=push&Path=/registry/&PolicyDocument={}", document("ecr:PutImage"));
    let made = admin.ask(&create).await;
    assert_eq!((between(&made, "Arn"), between(&made, "DefaultVersionId")), (arn.as_str(), "v1"));
    admin.ask(&format!("AttachUserPolicy&UserName=alice&PolicyArn={arn}")).await;
    assert!(fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    for version in 2..=5 {
        let default = version == 2;
        let form = format!(
            "CreatePolicyVersion&PolicyArn={arn}&PolicyDocument={}&SetAsDefault={default}",
            document("ecr:ListImages")
        );
        assert_eq!(between(&admin.ask(&form).await, "VersionId"), format!("v{version}"));
    }
    let ids = |body: &str| -> Vec<String> {
        let ids = body.split("<VersionId>").skip(1);
        ids.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
    };
    let list = format!("ListPolicyVersions&PolicyArn={arn}&MaxItems=3");
    let first = admin.ask(&list).await;
    assert_eq!(
        (ids(&first), between(&first, "IsTruncated")),
        (["v5", "v4", "v3"].map(str::to_owned).into(), "true")
    );
    let rest = admin.ask(&format!("{list}&Marker={}", encoded(between(&first, "Marker")))).await;
    assert_eq!(
        (ids(&rest), between(&rest, "IsTruncated")),
        (["v2", "v1"].map(str::to_owned).into(), "false")
    );
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    assert!(fixture.allowed(&caller, "ecr:ListImages", &repository("app")));
    let sixth = format!("CreatePolicyVersion&PolicyArn={arn}&PolicyDocument={}", document("ecr:*"));
    assert_eq!(admin.refused(&sixth).await, code("LimitExceeded", 409));
    admin.ask(&format!("SetDefaultPolicyVersion&PolicyArn={arn}&VersionId=v1")).await;
    assert!(fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    let default = format!("DeletePolicyVersion&PolicyArn={arn}&VersionId=v1");
    assert_eq!(admin.refused(&default).await, code("DeleteConflict", 409));
    assert_eq!(admin.refused(&format!("DeletePolicy&PolicyArn={arn}")).await, code("DeleteConflict", 409));
    for version in 2..=5 {
        admin.ask(&format!("DeletePolicyVersion&PolicyArn={arn}&VersionId=v{version}")).await;
    }
    let sixth = admin.ask(&sixth).await;
    assert_eq!(between(&sixth, "VersionId"), "v6", "no number comes twice");
    admin.ask(&format!("DeletePolicyVersion&PolicyArn={arn}&VersionId=v6")).await;
    assert_eq!(
        between(&admin.ask(&format!("ListEntitiesForPolicy&PolicyArn={arn}")).await, "UserName"),
        "alice"
    );
    admin.ask(&format!("DetachUserPolicy&UserName=alice&PolicyArn={arn}")).await;
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    admin.ask(&format!("DeletePolicy&PolicyArn={arn}")).await;
    assert_eq!(admin.refused(&format!("GetPolicy&PolicyArn={arn}")).await, code("NoSuchEntity", 404));
    let shipped = "arn:aws:iam::aws:policy/AdministratorAccess";
    assert_eq!(
        admin.refused(&format!("DeletePolicy&PolicyArn={shipped}")).await,
        code("UnmodifiableEntity", 400)
    );
}

#[tokio::test]
async fn a_boundary_caps_whatever_is_allowed() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    let key = fixture.user("alice", ALLOW_ALL).await;
    let caller = fixture.caller(&key).await;
    let pull_only = encoded("arn:aws:iam::aws:policy/BerthPullOnly");
    assert!(fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    admin.ask(&format!("PutUserPermissionsBoundary&UserName=alice&PermissionsBoundary={pull_only}")).await;
    assert!(!fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    assert!(fixture.allowed(&caller, "ecr:BatchGetImage", &repository("app")));
    admin.ask("DeleteUserPermissionsBoundary&UserName=alice").await;
    assert!(fixture.allowed(&caller, "ecr:PutImage", &repository("app")));
    let absent =
        format!("PutUserPermissionsBoundary&UserName=alice&PermissionsBoundary={ACCOUNT_ARN}:policy/no");
    assert_eq!(admin.refused(&absent).await, code("NoSuchEntity", 404));
}

#[tokio::test]
async fn what_the_files_own_is_read_and_not_changed() {
    let fixture = Fixture::new().await;
    fixture.user("robot", ALLOW_ALL).await;
    let files = "UPDATE identity_users SET owner = 'files', path = '/ci/' WHERE name = 'robot'";
    fixture.write(move |tx| tx.execute(files, &[]).map(drop)).await;
    let admin = Client::administrator(&fixture);
    assert_eq!(between(&admin.ask("GetUser&UserName=robot").await, "Path"), "/ci/");
    for form in [
        "UpdateUser&UserName=robot&NewPath=/",
        "DeleteUser&UserName=robot",
        "CreateAccessKey&UserName=robot",
        "TagUser&UserName=robot&Tags.member.1.Key=a&Tags.member.1.Value=b",
        "DeleteUserPolicy&UserName=robot&PolicyName=inline",
        "AttachUserPolicy&UserName=robot&PolicyArn=arn:aws:iam::aws:policy/BerthPullOnly",
    ] {
        let (status, body) = admin.send(form).await;
        assert_eq!((status.as_u16(), between(&body, "Code")), (400, "UnmodifiableEntity"), "{form}");
        assert!(between(&body, "Message").contains("the policy file users/ci/robot.json"), "{body}");
    }
    assert_eq!(Owner::parse("files"), Owner::Files);
}

#[tokio::test]
async fn lists_come_in_pages_that_lose_and_repeat_nothing() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    for number in 0..7 {
        let path = if number % 2 == 0 { "/even/" } else { "/odd/" };
        admin.ask(&format!("CreateUser&UserName=u{number}&Path={path}")).await;
    }
    for (filter, expected) in [("", 8), ("&PathPrefix=/even/", 4), ("&PathPrefix=/none/", 0)] {
        let (mut marker, mut seen) = (String::new(), Vec::new());
        loop {
            let page = admin.ask(&format!("ListUsers&MaxItems=2{filter}{marker}")).await;
            let names = page.split("<UserName>").skip(1);
            seen.extend(names.map(|rest| rest.split('<').next().unwrap().to_owned()));
            if between(&page, "IsTruncated") == "false" {
                break;
            }
            marker = format!("&Marker={}", between(&page, "Marker"));
        }
        let mut unique = seen.clone();
        unique.dedup();
        assert_eq!((seen.len(), unique.len()), (expected, expected), "{filter}: {seen:?}");
    }
    assert_eq!(admin.refused("ListUsers&MaxItems=0").await, code("ValidationError", 400));
    assert_eq!(admin.refused("ListUsers&Marker=nonsense").await, code("ValidationError", 400));
    let policies = admin.ask("ListPolicies&Scope=AWS&MaxItems=1000").await;
    assert_eq!(policies.matches("<Arn>").count(), policies::managed::all().len());
}

#[tokio::test]
async fn older_sessions_of_a_role_are_cut_off_by_their_time_of_issue() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    let trusted = trust(r#""AWS":"arn:aws:iam::000000000000:user/administrator""#, "{}");
    let role = fixture.role("deployer", &trusted, &policy("Allow", "ecr:PutImage", "*")).await;
    let administrator = fixture.caller(&fixture.administrator).await;
    let assume = || async {
        let request = AssumeRole::new(role.clone(), "ci");
        let made = fixture.identity.assume_role(&fixture.ctx(), &administrator, &request).await.unwrap();
        fixture.authenticate(&session_signing(&made)).await.unwrap()
    };
    let older = assume().await;
    assert!(fixture.allowed(&older, "ecr:PutImage", &repository("app")));
    fixture.clock.advance(std::time::Duration::from_secs(60));
    fixture.identity.refresh().await.unwrap();
    let now = registry_aws::timestamp::iso8601(fixture.clock.now_ms());
    let document = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":["*"],"Resource":["*"],"Condition":{{"DateLessThan":{{"aws:TokenIssueTime":"{now}"}}}}}}]}}"#
    );
    let put = format!(
        "PutRolePolicy&RoleName=deployer&PolicyName=AWSRevokeOlderSessions&PolicyDocument={}",
        encoded(&document)
    );
    admin.ask(&put).await;
    assert!(!fixture.allowed(&older, "ecr:PutImage", &repository("app")));
    let newer = assume().await;
    assert!(fixture.allowed(&newer, "ecr:PutImage", &repository("app")));
}

#[tokio::test]
async fn another_trust_policy_ends_the_sessions_of_the_one_before() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    let trusted = trust(r#""AWS":"arn:aws:iam::000000000000:user/administrator""#, "{}");
    let make = format!("CreateRole&RoleName=web&AssumeRolePolicyDocument={}", encoded(&trusted));
    admin.ask(&make).await;
    let document = encoded(&policy("Allow", "ecr:PutImage", "*"));
    admin.ask(&format!("PutRolePolicy&RoleName=web&PolicyName=p&PolicyDocument={document}")).await;
    let administrator = fixture.caller(&fixture.administrator).await;
    let request = AssumeRole::new(format!("{ACCOUNT_ARN}:role/web").parse().unwrap(), "ci");
    let made = fixture.identity.assume_role(&fixture.ctx(), &administrator, &request).await.unwrap();
    let session = fixture.authenticate(&session_signing(&made)).await.unwrap();
    assert!(fixture.allowed(&session, "ecr:PutImage", &repository("app")));
    let nobody = encoded(&trust(r#""AWS":"arn:aws:iam::000000000000:user/other""#, "{}"));
    admin.ask(&format!("UpdateAssumeRolePolicy&RoleName=web&PolicyDocument={nobody}")).await;
    assert!(!fixture.allowed(&session, "ecr:PutImage", &repository("app")));
    assert!(fixture.identity.assume_role(&fixture.ctx(), &administrator, &request).await.is_err());
    assert_eq!(admin.refused("DeleteRole&RoleName=web").await, code("DeleteConflict", 409));
    admin.ask("DeleteRolePolicy&RoleName=web&PolicyName=p").await;
    admin.ask("CreateInstanceProfile&InstanceProfileName=hosts").await;
    admin.ask("AddRoleToInstanceProfile&InstanceProfileName=hosts&RoleName=web").await;
    assert_eq!(admin.refused("DeleteRole&RoleName=web").await, code("DeleteConflict", 409));
    let profiles = admin.ask("ListInstanceProfilesForRole&RoleName=web").await;
    assert_eq!(between(&profiles, "InstanceProfileName"), "hosts");
    assert_eq!(
        admin.refused("DeleteInstanceProfile&InstanceProfileName=hosts").await,
        code("DeleteConflict", 409)
    );
    admin.ask("RemoveRoleFromInstanceProfile&InstanceProfileName=hosts&RoleName=web").await;
    admin.ask("DeleteInstanceProfile&InstanceProfileName=hosts").await;
    admin.ask("DeleteRole&RoleName=web").await;
}

#[tokio::test]
async fn a_key_tells_when_it_was_last_used() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    let key = fixture.user("alice", ALLOW_ALL).await;
    let ask = format!("GetAccessKeyLastUsed&AccessKeyId={}", key.access_key_id);
    assert_eq!(between(&admin.ask(&ask).await, "ServiceName"), "N/A");
    fixture.authenticate(&signing(&key)).await.unwrap();
    let used = admin.ask(&ask).await;
    assert_eq!((between(&used, "ServiceName"), between(&used, "UserName")), ("sts", "alice"));
    assert_eq!(between(&used, "LastUsedDate"), "2026-11-23T04:00:00Z");
    let generation = fixture.identity.security_generation();
    fixture.identity.write_uses().await.unwrap();
    let id = key.access_key_id.clone();
    let written = fixture.database.read(move |tx| store::keys::last_use(tx, &id)).await.unwrap();
    assert_eq!(written, Some((crate::testing::START_MS, "sts".to_owned())));
    fixture.identity.refresh().await.unwrap();
    assert_eq!(fixture.identity.security_generation(), generation, "a use changes no decision");
}

#[tokio::test]
async fn simulations_decide_like_requests() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    fixture.user("alice", &policy("Allow", "ecr:PutImage", &repository("app"))).await;
    let ask = |action: &str, resource: &str| {
        format!(
            "SimulatePrincipalPolicy&PolicySourceArn={ACCOUNT_ARN}:user/alice&ActionNames.member.1={action}\
             &ResourceArns.member.1={}",
            encoded(resource)
        )
    };
    for (action, resource, expected) in [
        ("ecr:PutImage", repository("app"), "allowed"),
        ("ecr:PutImage", repository("other"), "implicitDeny"),
        ("ecr:ListImages", repository("app"), "implicitDeny"),
    ] {
        assert_eq!(between(&admin.ask(&ask(action, &resource)).await, "EvalDecision"), expected, "{action}");
    }
    let deny = encoded(&policy("Deny", "ecr:*", "*"));
    let denied = format!("{}&PolicyInputList.member.1={deny}", ask("ecr:PutImage", &repository("app")));
    let denied = admin.ask(&denied).await;
    assert_eq!(between(&denied, "EvalDecision"), "explicitDeny");
    assert_eq!(between(&denied, "SourcePolicyId"), "PolicyInputList.1");
    let conditional = encoded(
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecr:*","Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"eu-1"}}}]}"#,
    );
    let custom = |region: &str| {
        format!(
            "SimulateCustomPolicy&PolicyInputList.member.1={conditional}&ActionNames.member.1=ecr:PutImage\
             &ContextEntries.member.1.ContextKeyName=aws:RequestedRegion\
             &ContextEntries.member.1.ContextKeyType=string\
             &ContextEntries.member.1.ContextKeyValues.member.1={region}"
        )
    };
    assert_eq!(between(&admin.ask(&custom("eu-1")).await, "EvalDecision"), "allowed");
    assert_eq!(between(&admin.ask(&custom("us-1")).await, "EvalDecision"), "implicitDeny");
    assert_eq!(
        admin.refused("SimulateCustomPolicy&ActionNames.member.1=ecr:PutImage").await.1,
        "ValidationError"
    );
}

#[tokio::test]
async fn malformed_and_oversized_documents_are_refused() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    admin.ask("CreateUser&UserName=alice").await;
    let put = |document: &str| {
        format!("PutUserPolicy&UserName=alice&PolicyName=p&PolicyDocument={}", encoded(document))
    };
    assert_eq!(admin.refused(&put("{}")).await, code("MalformedPolicyDocument", 400));
    assert_eq!(admin.refused(&put(&trust(r#""AWS":"*""#, "{}"))).await, code("MalformedPolicyDocument", 400));
    let long = policy("Allow", "ecr:PutImage", &format!("arn:aws:ecr:*:*:repository/{}", "a".repeat(2048)));
    assert_eq!(admin.refused(&put(&long)).await, code("LimitExceeded", 409));
    let long = policy("Allow", "ecr:PutImage", &format!("arn:aws:ecr:*:*:repository/{}", "a".repeat(6144)));
    let create = format!("CreatePolicy&PolicyName=p&PolicyDocument={}", encoded(&long));
    assert_eq!(admin.refused(&create).await, code("LimitExceeded", 409));
    for form in
        ["CreateUser", "CreateUser&UserName=a%2Fb", "CreateUser&UserName=a&Path=x", "GetUser&UserName="]
    {
        assert_eq!(admin.refused(form).await, code("ValidationError", 400), "{form}");
    }
}

#[tokio::test]
async fn roles_tell_when_they_were_used_and_reports_what_there_is() {
    let fixture = Fixture::new().await;
    let admin = Client::administrator(&fixture);
    let trusting = trust(&format!(r#""AWS":"{ACCOUNT_ARN}:user/administrator""#), "{}");
    let role = fixture.role("web", &trusting, &policy("Allow", "ecr:*", "*")).await;
    let unused = admin.ask("GetRole&RoleName=web").await;
    assert!(unused.contains("<RoleLastUsed") && !unused.contains("LastUsedDate"), "{unused}");
    let caller = fixture.caller(&fixture.administrator).await;
    let assumed = fixture.identity.assume_role(&fixture.ctx(), &caller, &AssumeRole::new(role, "one")).await;
    fixture.session(&assumed.unwrap()).await;
    let seen = between(&admin.ask("GetRole&RoleName=web").await, "LastUsedDate").to_owned();
    fixture.identity.write_uses().await.unwrap();
    let written = fixture
        .identity
        .inner()
        .database
        .read(|tx| store::entities::find(tx, store::entities::EntityKind::Role, "web"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(registry_aws::timestamp::iso8601(written.last_used_ms.unwrap()), seen);
    assert!(!admin.ask("ListRoles").await.contains("RoleLastUsed"));

    let document = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecr:*",
        "Resource":"arn:aws:ecr:*:*:repository/${aws:PrincipalTag/team}/${*}","Condition":{
        "StringLike":{"aws:UserAgent":"${aws:username, 'x'}"},"Bool":{"aws:SecureTransport":"true"}}}]}"#;
    let asked = format!("GetContextKeysForCustomPolicy&PolicyInputList.member.1={}", encoded(document));
    let keys = admin.ask(&asked).await;
    let named: Vec<&str> = keys.split("<member>").skip(1).filter_map(|rest| rest.split('<').next()).collect();
    assert_eq!(named, ["aws:PrincipalTag/team", "aws:SecureTransport", "aws:UserAgent", "aws:username"]);
    admin
        .ask(&format!("PutRolePolicy&RoleName=web&PolicyName=keys&PolicyDocument={}", encoded(document)))
        .await;
    let source = encoded(&format!("{ACCOUNT_ARN}:role/web"));
    let keys = admin.ask(&format!("GetContextKeysForPrincipalPolicy&PolicySourceArn={source}")).await;
    assert!(keys.contains("<member>aws:UserAgent</member>"), "{keys}");
    let wrong = "GetContextKeysForCustomPolicy&PolicyInputList.member.1=nonsense";
    assert_eq!(admin.refused(wrong).await, code("InvalidInput", 400));

    assert_eq!(between(&admin.ask("GenerateCredentialReport").await, "State"), "COMPLETE");
    let report = admin.ask("GetCredentialReport").await;
    use base64::Engine;
    let report = base64::engine::general_purpose::STANDARD.decode(between(&report, "Content")).unwrap();
    let report = String::from_utf8(report).unwrap();
    let mut lines = report.lines();
    let columns = lines.next().unwrap().split(',').count();
    assert_eq!(columns, 22);
    let administrator = lines.find(|line| line.starts_with("administrator,")).unwrap();
    assert_eq!(administrator.split(',').count(), columns, "{administrator}");
    assert!(administrator.contains(",true,") && administrator.contains(",us-east-1,iam,"), "{administrator}");
}
