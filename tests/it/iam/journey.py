"""Every operation of IAM that Berth serves, as boto3 speaks it: shapes, paginators, waiters, exceptions."""
import json
import urllib.error
import urllib.request

import boto3

iam = boto3.client("iam")
ACCOUNT = "arn:aws:iam::000000000000"


def document(action, effect="Allow", resource="*"):
    statement = {"Effect": effect, "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def refused(error, call, **members):
    try:
        call(**members)
    except getattr(iam.exceptions, error) as raised:
        return raised.response["Error"]["Message"]
    raise AssertionError(f"{call.__name__} was not refused with {error}")


def trust(service):
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


# A presigned request says who signed it, as long as nobody changes it.
url = boto3.client("sts").generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
assert b":user/administrator<" in urllib.request.urlopen(url).read()
for changed in [url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"), url + "&DurationSeconds=900"]:
    try:
        urllib.request.urlopen(changed)
        raise AssertionError(f"{changed} was answered")
    except urllib.error.HTTPError as error:
        assert error.code == 403, error

# Users, their tags and boundary.
user = iam.create_user(UserName="alice", Path="/team/", Tags=[{"Key": "team", "Value": "blue"}])["User"]
assert user["Arn"] == f"{ACCOUNT}:user/team/alice" and user["UserId"].startswith("AIDA"), user
assert user["Tags"] == [{"Key": "team", "Value": "blue"}] and user["CreateDate"].year >= 2020, user
iam.get_waiter("user_exists").wait(UserName="alice")
refused("EntityAlreadyExistsException", iam.create_user, UserName="ALICE")
refused("NoSuchEntityException", iam.get_user, UserName="nobody")
assert iam.get_user()["User"]["UserName"] == "administrator"
iam.tag_user(UserName="alice", Tags=[{"Key": "Team", "Value": "red"}, {"Key": "cost", "Value": ""}])
tags = iam.list_user_tags(UserName="alice")["Tags"]
assert tags == [{"Key": "Team", "Value": "red"}, {"Key": "cost", "Value": ""}], tags
iam.untag_user(UserName="alice", TagKeys=["cost"])
iam.put_user_permissions_boundary(UserName="alice", PermissionsBoundary="arn:aws:iam::aws:policy/BerthPowerUser")
boundary = iam.get_user(UserName="alice")["User"]["PermissionsBoundary"]
assert boundary["PermissionsBoundaryArn"].endswith("BerthPowerUser"), boundary
iam.delete_user_permissions_boundary(UserName="alice")
assert "PermissionsBoundary" not in iam.get_user(UserName="alice")["User"]

# Inline policies come back as objects.
iam.put_user_policy(UserName="alice", PolicyName="pull", PolicyDocument=document("ecr:BatchGetImage"))
inline = iam.get_user_policy(UserName="alice", PolicyName="pull")["PolicyDocument"]
assert inline["Statement"][0]["Action"] == "ecr:BatchGetImage", inline
assert iam.list_user_policies(UserName="alice")["PolicyNames"] == ["pull"]
refused("MalformedPolicyDocumentException", iam.put_user_policy, UserName="alice", PolicyName="x", PolicyDocument="{}")

# Groups.
group = iam.create_group(GroupName="developers")["Group"]
assert group["GroupId"].startswith("AGPA") and group["Path"] == "/", group
iam.add_user_to_group(GroupName="developers", UserName="alice")
assert [user["UserName"] for user in iam.get_group(GroupName="developers")["Users"]] == ["alice"]
assert [group["GroupName"] for group in iam.list_groups_for_user(UserName="alice")["Groups"]] == ["developers"]
iam.put_group_policy(GroupName="developers", PolicyName="list", PolicyDocument=document("ecr:ListImages"))
assert iam.list_group_policies(GroupName="developers")["PolicyNames"] == ["list"]
assert iam.get_group_policy(GroupName="developers", PolicyName="list")["GroupName"] == "developers"
iam.update_group(GroupName="developers", NewGroupName="engineers", NewPath="/all/")
assert iam.list_groups(PathPrefix="/all/")["Groups"][0]["Arn"] == f"{ACCOUNT}:group/all/engineers"

# Managed policies, versions, attachments.
policy = iam.create_policy(
    PolicyName="push", Path="/registry/", Description="Pushes.", PolicyDocument=document("ecr:PutImage"),
    Tags=[{"Key": "a", "Value": "b"}],
)["Policy"]
arn = policy["Arn"]
assert arn == f"{ACCOUNT}:policy/registry/push" and policy["DefaultVersionId"] == "v1", policy
iam.get_waiter("policy_exists").wait(PolicyArn=arn)
for _ in range(4):
    made = iam.create_policy_version(PolicyArn=arn, PolicyDocument=document("ecr:*"), SetAsDefault=True)
assert made["PolicyVersion"]["VersionId"] == "v5" and made["PolicyVersion"]["IsDefaultVersion"], made
refused("LimitExceededException", iam.create_policy_version, PolicyArn=arn, PolicyDocument=document("ecr:*"))
versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
assert [version["VersionId"] for version in versions] == ["v5", "v4", "v3", "v2", "v1"], versions
iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
first = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]
assert first["Document"]["Statement"][0]["Action"] == "ecr:PutImage" and first["IsDefaultVersion"], first
for version in ["v2", "v3", "v4", "v5"]:
    iam.delete_policy_version(PolicyArn=arn, VersionId=version)
iam.attach_user_policy(UserName="alice", PolicyArn=arn)
iam.attach_group_policy(GroupName="engineers", PolicyArn=arn)
assert iam.list_attached_user_policies(UserName="alice")["AttachedPolicies"] == [
    {"PolicyName": "push", "PolicyArn": arn}
]
entities = iam.list_entities_for_policy(PolicyArn=arn)
assert [user["UserName"] for user in entities["PolicyUsers"]] == ["alice"], entities
assert [group["GroupName"] for group in entities["PolicyGroups"]] == ["engineers"] and not entities["PolicyRoles"]
found = iam.get_policy(PolicyArn=arn)["Policy"]
assert found["AttachmentCount"] == 2 and found["Description"] == "Pushes." and found["Tags"], found
iam.tag_policy(PolicyArn=arn, Tags=[{"Key": "c", "Value": "d"}])
assert len(iam.list_policy_tags(PolicyArn=arn)["Tags"]) == 2
iam.untag_policy(PolicyArn=arn, TagKeys=["a", "c"])
pages = iam.get_paginator("list_policies").paginate(Scope="All", PaginationConfig={"PageSize": 2})
names = [policy["PolicyName"] for page in pages for policy in page["Policies"]]
assert names[0] == "push" and "AdministratorAccess" in names and len(names) == len(set(names)), names
attached = iam.list_policies(OnlyAttached=True, Scope="Local")["Policies"]
assert [policy["PolicyName"] for policy in attached] == ["push"], attached
refused("DeleteConflictException", iam.delete_policy, PolicyArn=arn)
refused("UnmodifiableEntityException", iam.delete_policy, PolicyArn="arn:aws:iam::aws:policy/BerthPullOnly")

# Roles and instance profiles.
role = iam.create_role(
    RoleName="web", Path="/tasks/", AssumeRolePolicyDocument=trust("ecs-tasks.amazonaws.com"), MaxSessionDuration=7200,
    PermissionsBoundary=arn, Tags=[{"Key": "team", "Value": "blue"}],
)["Role"]
assert role["RoleId"].startswith("AROA") and role["MaxSessionDuration"] == 7200, role
iam.get_waiter("role_exists").wait(RoleName="web")
assert iam.get_role(RoleName="web")["Role"]["AssumeRolePolicyDocument"]["Statement"][0]["Effect"] == "Allow"
assert "RoleLastUsed" in iam.get_role(RoleName="web")["Role"]
assert iam.generate_credential_report()["State"] == "COMPLETE"
assert iam.get_credential_report()["Content"].startswith(b"user,arn,user_creation_time,")
iam.update_assume_role_policy(RoleName="web", PolicyDocument=trust("ec2.amazonaws.com"))
iam.update_role(RoleName="web", Description="Serves.", MaxSessionDuration=3600)
assert iam.update_role_description(RoleName="web", Description="Still serves.")["Role"]["MaxSessionDuration"] == 3600
iam.put_role_policy(RoleName="web", PolicyName="own", PolicyDocument=document("ecr:*"))
assert iam.get_role_policy(RoleName="web", PolicyName="own")["RoleName"] == "web"
assert iam.list_role_policies(RoleName="web")["PolicyNames"] == ["own"]
iam.attach_role_policy(RoleName="web", PolicyArn="arn:aws:iam::aws:policy/BerthPullOnly")
assert len(iam.list_attached_role_policies(RoleName="web")["AttachedPolicies"]) == 1
bounded = iam.list_entities_for_policy(PolicyArn=arn, PolicyUsageFilter="PermissionsBoundary")
assert [role["RoleName"] for role in bounded["PolicyRoles"]] == ["web"] and not bounded["PolicyUsers"], bounded
iam.tag_role(RoleName="web", Tags=[{"Key": "x", "Value": "y"}])
assert len(iam.list_role_tags(RoleName="web")["Tags"]) == 2
iam.untag_role(RoleName="web", TagKeys=["x"])
assert [role["RoleName"] for role in iam.list_roles(PathPrefix="/tasks/")["Roles"]] == ["web"]
profile = iam.create_instance_profile(InstanceProfileName="hosts")["InstanceProfile"]
assert profile["InstanceProfileId"].startswith("AIPA") and profile["Roles"] == [], profile
iam.get_waiter("instance_profile_exists").wait(InstanceProfileName="hosts")
iam.add_role_to_instance_profile(InstanceProfileName="hosts", RoleName="web")
refused("LimitExceededException", iam.add_role_to_instance_profile, InstanceProfileName="hosts", RoleName="web")
assert iam.list_instance_profiles_for_role(RoleName="web")["InstanceProfiles"][0]["Roles"][0]["RoleName"] == "web"
iam.tag_instance_profile(InstanceProfileName="hosts", Tags=[{"Key": "x", "Value": "y"}])
assert len(iam.list_instance_profile_tags(InstanceProfileName="hosts")["Tags"]) == 1
iam.untag_instance_profile(InstanceProfileName="hosts", TagKeys=["x"])
assert len(iam.list_instance_profiles()["InstanceProfiles"]) == 1
refused("DeleteConflictException", iam.delete_role, RoleName="web")

# Access keys.
key = iam.create_access_key(UserName="alice")["AccessKey"]
assert len(key["SecretAccessKey"]) == 40 and key["Status"] == "Active", key["Status"]
listed = iam.list_access_keys(UserName="alice")["AccessKeyMetadata"]
assert [one["AccessKeyId"] for one in listed] == [key["AccessKeyId"]] and "SecretAccessKey" not in listed[0]
alice = boto3.client(
    "sts", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"], aws_session_token=None
)
assert alice.get_caller_identity()["Arn"] == f"{ACCOUNT}:user/team/alice"
used = iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])
assert used["UserName"] == "alice" and used["AccessKeyLastUsed"]["ServiceName"] == "sts", used
iam.update_access_key(UserName="alice", AccessKeyId=key["AccessKeyId"], Status="Inactive")
try:
    alice.get_caller_identity()
    raise AssertionError("a disabled key works")
except alice.exceptions.ClientError as raised:
    assert raised.response["ResponseMetadata"]["HTTPStatusCode"] == 403, raised

# Simulations.
simulated = iam.simulate_principal_policy(
    PolicySourceArn=user["Arn"], ActionNames=["ecr:PutImage", "ecs:RunTask"],
    ResourceArns=["arn:aws:ecr:us-east-1:000000000000:repository/app"],
)["EvaluationResults"]
assert [one["EvalDecision"] for one in simulated] == ["allowed", "implicitDeny"], simulated
custom = iam.simulate_custom_policy(
    PolicyInputList=[document("ecr:*"), document("ecr:PutImage", effect="Deny")], ActionNames=["ecr:PutImage"],
)["EvaluationResults"][0]
assert custom["EvalDecision"] == "explicitDeny", custom
assert custom["MatchedStatements"][0]["SourcePolicyId"] == "PolicyInputList.2", custom

# The account as a whole.
summary = iam.get_account_summary()["SummaryMap"]
assert summary["Groups"] == 1 and summary["InstanceProfiles"] == 1 and summary["Users"] == 2, summary
details = iam.get_paginator("get_account_authorization_details").paginate(PaginationConfig={"PageSize": 3})
details = list(details)
users = {user["UserName"]: user for page in details for user in page["UserDetailList"]}
assert users["alice"]["GroupList"] == ["engineers"], users["alice"]
assert users["alice"]["UserPolicyList"][0]["PolicyDocument"]["Statement"], users["alice"]
roles = {role["RoleName"]: role for page in details for role in page["RoleDetailList"]}
assert roles["web"]["InstanceProfileList"][0]["InstanceProfileName"] == "hosts", roles["web"]
policies = [policy["PolicyName"] for page in details for policy in page["Policies"]]
assert "push" in policies and len(policies) == len(set(policies)), policies
only = iam.get_account_authorization_details(Filter=["Group"])
assert only["GroupDetailList"] and not only["UserDetailList"] and not only["Policies"], only

# What nobody has here.
assert iam.list_mfa_devices(UserName="alice")["MFADevices"] == []
assert iam.list_ssh_public_keys(UserName="alice")["SSHPublicKeys"] == []
assert iam.list_signing_certificates(UserName="alice")["Certificates"] == []
assert iam.list_service_specific_credentials(UserName="alice")["ServiceSpecificCredentials"] == []
refused("NoSuchEntityException", iam.get_login_profile, UserName="alice")
assert iam.list_account_aliases()["AccountAliases"] == []

# Everything goes, in the order that IAM demands.
refused("DeleteConflictException", iam.delete_user, UserName="alice")
iam.delete_access_key(UserName="alice", AccessKeyId=key["AccessKeyId"])
iam.delete_user_policy(UserName="alice", PolicyName="pull")
iam.detach_user_policy(UserName="alice", PolicyArn=arn)
iam.remove_user_from_group(GroupName="engineers", UserName="alice")
iam.update_user(UserName="alice", NewUserName="alicia")
iam.delete_user(UserName="alicia")
iam.detach_group_policy(GroupName="engineers", PolicyArn=arn)
iam.delete_group_policy(GroupName="engineers", PolicyName="list")
iam.delete_group(GroupName="engineers")
iam.remove_role_from_instance_profile(InstanceProfileName="hosts", RoleName="web")
iam.delete_instance_profile(InstanceProfileName="hosts")
iam.detach_role_policy(RoleName="web", PolicyArn="arn:aws:iam::aws:policy/BerthPullOnly")
iam.delete_role_policy(RoleName="web", PolicyName="own")
iam.delete_role_permissions_boundary(RoleName="web")
iam.put_role_permissions_boundary(RoleName="web", PermissionsBoundary="arn:aws:iam::aws:policy/BerthPullOnly")
iam.delete_role(RoleName="web")
iam.delete_policy(PolicyArn=arn)
refused("NoSuchEntityException", iam.get_policy, PolicyArn=arn)
print("all done")
