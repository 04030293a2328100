//! The policies that Berth ships, under AWS's own ARNs where AWS has a policy of that name.
//!
//! All but the administrator's deny what opens the host of a task (privileged mode, host paths,
//! capabilities, devices, host namespaces), so that no other policy beside them can grant it.

/// A policy that nobody can change.
#[derive(Debug, Clone, Copy)]
pub struct ManagedPolicy {
    pub name: &'static str,
    /// `/` or `/service-role/`.
    pub path: &'static str,
    /// `arn:aws:iam::aws:policy` + path + name.
    pub arn: &'static str,
    pub description: &'static str,
    /// JSON text.
    pub document: &'static str,
}

const ALL: [ManagedPolicy; 6] = [
    ManagedPolicy {
        name: "AdministratorAccess",
        path: "/",
        arn: "arn:aws:iam::aws:policy/AdministratorAccess",
        description: "Everything.",
        document: include_str!("../managed/AdministratorAccess.json"),
    },
    ManagedPolicy {
        name: "BerthPowerUser",
        path: "/",
        arn: "arn:aws:iam::aws:policy/BerthPowerUser",
        description: "The whole registry and scheduler; passes the task execution role and roles below /tasks/; \
                      no users, policies, hosts or host access.",
        document: include_str!("../managed/BerthPowerUser.json"),
    },
    ManagedPolicy {
        name: "BerthReadOnly",
        path: "/",
        arn: "arn:aws:iam::aws:policy/BerthReadOnly",
        description: "Sees registry, scheduler and logs, and pulls.",
        document: include_str!("../managed/BerthReadOnly.json"),
    },
    ManagedPolicy {
        name: "BerthPullOnly",
        path: "/",
        arn: "arn:aws:iam::aws:policy/BerthPullOnly",
        description: "Logs in and pulls images.",
        document: include_str!("../managed/BerthPullOnly.json"),
    },
    ManagedPolicy {
        name: "AmazonECSTaskExecutionRolePolicy",
        path: "/service-role/",
        arn: "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy",
        description: "What starting a task needs: pulling its images and writing its logs.",
        document: include_str!("../managed/service-role/AmazonECSTaskExecutionRolePolicy.json"),
    },
    ManagedPolicy {
        name: "BerthHostAgent",
        path: "/",
        arn: "arn:aws:iam::aws:policy/BerthHostAgent",
        description: "What the agent of a host does in its own name.",
        document: include_str!("../managed/BerthHostAgent.json"),
    },
];

/// Every shipped policy.
pub fn all() -> &'static [ManagedPolicy] {
    &ALL
}

/// By its whole ARN.
pub fn by_arn(arn: &str) -> Option<&'static ManagedPolicy> {
    ALL.iter().find(|policy| policy.arn == arn)
}

/// By its name, compared without case as IAM compares names.
pub fn by_name(name: &str) -> Option<&'static ManagedPolicy> {
    ALL.iter().find(|policy| policy.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::{all, by_arn, by_name};
    use crate::{
        Context, ContextValue, Named, Policy, PolicyKind, PolicySet, Principal, Reason, Request, evaluate,
    };

    const ACCOUNT: &str = "000000000000";
    const CLUSTER: &str = "arn:aws:ecs:us-east-1:000000000000:cluster/default";
    const REPOSITORY: &str = "arn:aws:ecr:us-east-1:000000000000:repository/app";

    fn decide(policies: &[&str], action: &str, resource: &str, context: &Context) -> Reason {
        let named = |name: &&str| {
            let policy = by_name(name).unwrap();
            Named::new(policy.arn, Policy::parse(policy.document, PolicyKind::Identity).unwrap())
        };
        let identity: Vec<Named> = policies.iter().map(named).collect();
        let principal = Principal::User { account: ACCOUNT, arn: "arn:aws:iam::000000000000:user/alice" };
        let request = Request { action, resource, resource_account: ACCOUNT, principal: &principal, context };
        evaluate(&request, &PolicySet { identity: &identity, ..PolicySet::default() }).reason
    }

    fn allowed(policy: &str, action: &str, resource: &str) -> bool {
        decide(&[policy], action, resource, &Context::new()) == Reason::Allowed
    }

    #[test]
    fn every_document_is_sound_in_every_place_it_can_stand() {
        for policy in all() {
            assert_eq!(policy.arn, format!("arn:aws:iam::aws:policy{}{}", policy.path, policy.name));
            assert!(by_arn(policy.arn).is_some());
            for kind in [PolicyKind::Identity, PolicyKind::Boundary, PolicyKind::Session] {
                let parsed = Policy::parse(policy.document, kind).unwrap();
                assert_eq!(parsed.warnings(), [], "{}", policy.name);
                assert!(parsed.size() <= 6_144);
            }
        }
    }

    #[test]
    fn all_but_the_administrator_keep_the_host_closed() {
        let list = |value: &str| ContextValue::Many(vec![value.to_owned()]);
        let openings: [(&str, ContextValue); 5] = [
            ("ecs:privileged", "true".into()),
            ("berth:HostPaths", list("/var/lib/app")),
            ("berth:Capabilities", list("SYS_ADMIN")),
            ("berth:Devices", list("/dev/kvm")),
            ("berth:HostNamespaces", list("pid")),
        ];
        for policy in all() {
            for (key, value) in &openings {
                let context = [(*key, value.clone())].into_iter().collect();
                for action in ["ecs:RunTask", "ecs:RegisterTaskDefinition", "ecs:CreateService"] {
                    let beside = decide(&["AdministratorAccess", policy.name], action, "*", &context);
                    let expected = match policy.name {
                        "AdministratorAccess" => Reason::Allowed,
                        _ => Reason::ExplicitDeny(PolicyKind::Identity),
                    };
                    assert_eq!(beside, expected, "{} {action} {key}", policy.name);
                }
            }
        }
        let harmless = [("ecs:privileged", "false")].into_iter().collect();
        assert_eq!(decide(&["BerthPowerUser"], "ecs:RunTask", "*", &harmless), Reason::Allowed);
    }

    #[test]
    fn a_power_user_runs_things_and_administers_nobody() {
        for action in
            ["ecr:PutImage", "ecr:SetRepositoryPolicy", "ecs:RunTask", "ecs:StopTask", "logs:GetLogEvents"]
        {
            assert!(allowed("BerthPowerUser", action, REPOSITORY), "{action}");
        }
        for action in [
            "iam:CreateUser",
            "iam:PutUserPolicy",
            "sts:AssumeRole",
            "berth:CreateJoinToken",
            "ecs:RegisterContainerInstance",
            "ecs:Poll",
            "secretsmanager:GetSecretValue",
        ] {
            assert!(!allowed("BerthPowerUser", action, "*"), "{action}");
        }
    }

    #[test]
    fn a_power_user_passes_task_roles_to_tasks_only() {
        let pass = |role: &str, service: &str| {
            let context = [("iam:PassedToService", service)].into_iter().collect();
            let role = format!("arn:aws:iam::{ACCOUNT}:role/{role}");
            decide(&["BerthPowerUser"], "iam:PassRole", &role, &context) == Reason::Allowed
        };
        assert!(pass("ecsTaskExecutionRole", "ecs-tasks.amazonaws.com"));
        assert!(pass("tasks/web", "ecs-tasks.amazonaws.com"));
        assert!(!pass("administrators", "ecs-tasks.amazonaws.com"));
        assert!(!pass("tasks/web", "ecs.amazonaws.com"));
    }

    #[test]
    fn readers_change_nothing_and_pullers_see_only_images() {
        for action in
            ["ecr:DescribeRepositories", "ecr:BatchGetImage", "ecs:DescribeTasks", "ecs:ListServices"]
        {
            assert!(allowed("BerthReadOnly", action, REPOSITORY), "{action}");
        }
        for action in
            ["ecr:PutImage", "ecr:BatchDeleteImage", "ecs:RunTask", "iam:PassRole", "logs:PutLogEvents"]
        {
            assert!(!allowed("BerthReadOnly", action, REPOSITORY), "{action}");
            assert!(!allowed("BerthPullOnly", action, REPOSITORY), "{action}");
        }
        assert!(allowed("BerthPullOnly", "ecr:GetAuthorizationToken", "*"));
        assert!(!allowed("BerthPullOnly", "ecr:DescribeRepositories", REPOSITORY));
    }

    #[test]
    fn an_agent_works_on_hosts_and_reads_no_image() {
        assert!(allowed("BerthHostAgent", "ecs:RegisterContainerInstance", CLUSTER));
        let instance = "arn:aws:ecs:us-east-1:000000000000:container-instance/default/abc";
        assert!(allowed("BerthHostAgent", "ecs:Poll", instance));
        for action in
            ["ecs:RunTask", "ecs:DescribeTasks", "ecr:BatchGetImage", "iam:PassRole", "ecs:StopTask"]
        {
            assert!(!allowed("BerthHostAgent", action, instance), "{action}");
        }
    }
}
