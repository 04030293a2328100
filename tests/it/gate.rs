//! Nothing is answered but through the gate: every operation of every API, asked by nobody, by a user without
//! rights, and by one who may log in and nothing else (S4).

use policies_identity::{BerthIdentity, Iam, Sts};
use registry::{BerthQuotas, BerthRecovery, BerthStatus, BerthStore, BerthUpstreams, Ecr, Oci};
use scheduler::Scheduler;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use test_support::{Http, Response, Server, eventually};

use crate::policy_files::{Files, SECRET};
use crate::signed::{BERTH, ECR, ECS, Service, Signer};

const POWERLESS: &str = "AKIAPOWERLESS000";
const GUEST: &str = "AKIAGUEST0000000";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A server with an image in `app`, a user who may nothing, and one who may log in.
struct House {
    server: Server,
    image: String,
    layer: String,
}

impl House {
    fn new() -> Self {
        let builder = Server::builder();
        let dir = builder.data().join("policies");
        let files = Files::new(&dir);
        files.user("powerless", POWERLESS, &json!([{"Effect": "Deny", "Action": "x:y", "Resource": "*"}]));
        let log_in = json!([{"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"}]);
        files.user("guest", GUEST, &log_in);
        let server = builder.start();
        let guest = server.anonymous().basic(GUEST, SECRET);
        eventually("the files are in effect", || (guest.get("/v2/").status == 200).then_some(()));
        let http = server.http();
        let layer = http.push_blob("app", b"{}");
        let config =
            json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": layer, "size": 2});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
        let put =
            http.put("/v2/app/manifests/1", &[("content-type", MANIFEST)], manifest.to_string().as_bytes());
        assert_eq!(put.status, 201, "{put:?}");
        let image = put.header("docker-content-digest").unwrap().to_owned();
        Self { server, image, layer }
    }

    fn signer(&self, key: Option<&str>) -> Signer {
        Signer::new(self.server.endpoint(), key.map(|key| (key, SECRET)))
    }

    /// All that the administrator sees.
    fn everything(&self) -> Vec<Value> {
        let (http, signer) = (self.server.http(), Signer::administrator(&self.server));
        let mut seen: Vec<Value> =
            ["/v2/_catalog", "/v2/app/tags/list"].iter().map(|path| http.get(path).json()).collect();
        for (service, operation, body) in [
            (&ECR, "DescribeRepositories", "{}"),
            (&ECR, "DescribeImages", r#"{"repositoryName":"app"}"#),
            (&ECR, "GetRepositoryPolicy", r#"{"repositoryName":"app"}"#),
            (&ECS, "ListClusters", "{}"),
            (&ECS, "DescribeClusters", "{}"),
            (&ECS, "ListTaskDefinitions", "{}"),
            (&ECS, "ListServices", "{}"),
            (&ECS, "ListTasks", "{}"),
            (&ECS, "ListContainerInstances", "{}"),
            (&BERTH, "DescribePolicyGeneration", "{}"),
        ] {
            seen.push(signer.call(service, operation, body).json());
        }
        seen
    }

    /// The audit lines of an access key, once every one of these operations has some.
    fn audit(&self, key: &str, operations: &[&str]) -> Vec<Value> {
        eventually(&format!("audit lines of {operations:?}"), || {
            let text = std::fs::read_to_string(self.server.data().join("audit.log")).unwrap();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let lines: Vec<Value> = lines.filter(|line| line["accessKeyId"] == key).collect();
            let seen: BTreeSet<&str> = lines.iter().filter_map(|line| line["operation"].as_str()).collect();
            operations.iter().all(|operation| seen.contains(operation)).then_some(lines)
        })
    }
}

/// A request that makes sense to every operation, about a repository of this name.
fn input(repository: &str) -> String {
    let cluster = "arn:aws:ecs:us-east-1:000000000000:cluster/default";
    json!({
        "repositoryName": repository, "repositoryNames": [repository],
        "resourceArn": format!("arn:aws:ecr:us-east-1:000000000000:repository/{repository}"),
        "tags": [], "tagKeys": ["a"], "imageIds": [{"imageTag": "1"}], "imageManifest": "{}", "imageTag": "1",
        "policyText": "{}", "imageTagMutability": "MUTABLE", "uploadId": "00000000000000000000000000000000",
        "layerDigests": ["sha256:0000000000000000000000000000000000000000000000000000000000000000"],
        "layerDigest": "sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "partFirstByte": 0, "partLastByte": 0, "layerPartBlob": "YQ==", "force": true,
        "imageScanningConfiguration": {"scanOnPush": false}, "subjectId": {"imageTag": "1"},
        "cluster": cluster, "clusterName": "default", "family": "web", "taskDefinition": "web:1",
        "service": "web", "serviceName": "web", "services": ["web"], "task": "a", "tasks": ["a"],
        "containerInstance": "b", "containerInstances": ["b"], "status": "DRAINING", "desiredCount": 1,
        "containerDefinitions": [{"name": "main", "image": "app:1", "memory": 16}], "attributes": [],
        "files": [{"path": "berth-policies.json", "content": "{\"format\":1,\"account\":\"000000000000\"}"}],
    })
    .to_string()
}

/// The exception's name, of either protocol.
fn exception(answer: &Response) -> String {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    match text.split_once("<Code>") {
        Some((_, rest)) => rest.split('<').next().unwrap().to_owned(),
        None => answer.json()["__type"].as_str().unwrap_or_default().to_owned(),
    }
}

fn json_operations() -> Vec<(&'static Service, &'static str)> {
    let of = |service: &'static Service, names: &[&'static str]| -> Vec<_> {
        names.iter().map(|name| (service, *name)).collect()
    };
    let all = [
        of(&ECR, Ecr::OPERATIONS),
        of(&ECS, Scheduler::ECS_OPERATIONS),
        of(&BERTH, Scheduler::BERTH_OPERATIONS),
        of(&BERTH, BerthIdentity::OPERATIONS),
        of(&BERTH, BerthQuotas::OPERATIONS),
        of(&BERTH, BerthRecovery::OPERATIONS),
        of(&BERTH, BerthStore::OPERATIONS),
        of(&BERTH, BerthStatus::OPERATIONS),
        of(&BERTH, BerthUpstreams::OPERATIONS),
    ];
    all.concat()
}

#[test]
fn every_operation_of_the_json_services_refuses_nobody_and_the_powerless() {
    let house = House::new();
    let before = house.everything();
    let (nobody, powerless) = (house.signer(None), house.signer(Some(POWERLESS)));
    let operations = json_operations();
    assert!(operations.len() >= 62 + 88 + 4, "{}", operations.len());
    for (service, operation) in &operations {
        let answer = nobody.call(service, operation, &input("app"));
        assert_eq!(exception(&answer), "MissingAuthenticationTokenException", "{operation}");
        let there = powerless.call(service, operation, &input("app"));
        assert_eq!(exception(&there), "AccessDeniedException", "{operation}: {there:?}");
        assert!(
            String::from_utf8_lossy(&there.body).contains(":user/powerless is not authorized to perform:"),
            "{operation}: {there:?}"
        );
        // A stranger does not learn what exists.
        let absent = powerless.call(service, operation, &input("absent"));
        let text = String::from_utf8_lossy(&absent.body).replace("repository/absent", "repository/app");
        assert_eq!((absent.status, text.as_bytes()), (there.status, &*there.body), "{operation}");
    }
    let names: Vec<&str> = operations.iter().map(|(_, operation)| *operation).collect();
    let audit = house.audit(POWERLESS, &names);
    assert!(audit.iter().all(|line| line["decision"] == "deny"), "{audit:?}");
    // What a policy can name is known to `berth policy check`: policies/actions/berth.txt.
    for action in audit.iter().filter_map(|line| line["action"].as_str()?.strip_prefix("berth:")) {
        assert!(policies::actions_of("berth").any(|known| known == action), "berth:{action} is not listed");
    }
    assert_eq!(house.everything(), before);
}

/// An operation with what it asks for.
struct Row {
    service: &'static Service,
    operation: &'static str,
    /// Pairs of action and resource.
    asked: Vec<(String, String)>,
    /// Whether the administrator is told that Berth does not offer it.
    unsupported: bool,
}

/// What every operation asks for, told by the audit log of a server of its own, on which the administrator calls it.
fn rows() -> Vec<Row> {
    let house = House::new();
    let administrator = Signer::administrator(&house.server);
    let operations = json_operations();
    let call = |(service, operation): &(&'static Service, &'static str)| {
        exception(&administrator.call(service, operation, &input("app"))).starts_with("Unsupported")
    };
    let unsupported: Vec<bool> = operations.iter().map(call).collect();
    let names: Vec<&str> = operations.iter().map(|(_, operation)| *operation).collect();
    let lines = house.audit(house.server.access_key_id(), &names);
    let row = |((service, operation), unsupported): (&(&'static Service, &'static str), bool)| {
        let mut asked: Vec<(String, String)> = Vec::new();
        for line in lines.iter().filter(|line| line["operation"] == *operation) {
            let text = |member: &str| line[member].as_str().unwrap_or_default().to_owned();
            if text("action").starts_with(service.name) || text("action") == "iam:PassRole" {
                asked.push((text("action"), text("resource")));
            }
        }
        asked.dedup();
        Row { service, operation, asked, unsupported }
    };
    operations.iter().zip(unsupported).map(row).collect()
}

#[test]
fn every_operation_of_the_json_services_is_allowed_by_what_it_asks_for_and_by_nothing_less() {
    let rows = rows();
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    let key = |kind: &str, at: usize| format!("AKIA{kind}{at:011}");
    for (at, Row { service, operation, asked, unsupported }) in rows.iter().enumerate() {
        // Referrers are read as OCI's are: AWS has no action of that name.
        let named = if *operation == "ListImageReferrers" { "ListImages" } else { operation };
        assert_eq!(asked[0].0, format!("{}:{named}", service.name));
        // What the reference does not know yet is not offered.
        let known = policies::actions_of(service.name).any(|known| known == named);
        assert!(known || *unsupported, "{operation}");
        let allow = |(action, resource): &(String, String)| json!({"Effect": "Allow", "Action": action, "Resource": resource});
        files.user(&format!("exact{at}"), &key("E", at), &asked.iter().map(allow).collect());
        let lacking = json!([{"Effect": "Allow", "NotAction": asked.last().unwrap().0, "Resource": "*"}]);
        files.user(&format!("lacking{at}"), &key("L", at), &lacking);
    }
    let server = builder.start();
    let call = |key: &str, row: &Row| {
        let signer = Signer::new(server.endpoint(), Some((key, SECRET)));
        signer.call(row.service, row.operation, &input("app"))
    };
    let list = rows.iter().position(|row| row.operation == "ListClusters").unwrap();
    eventually("the files are in effect", || {
        (call(&key("E", list), &rows[list]).status == 200).then_some(())
    });
    let refused = |answer: &Response| exception(answer) == "AccessDeniedException";
    // Another set of files ends everybody here.
    let (last, others): (Vec<_>, Vec<_>) =
        rows.iter().enumerate().partition(|(_, row)| row.operation == "PublishPolicies");
    for (at, row) in others.into_iter().chain(last) {
        let lacking = call(&key("L", at), row);
        assert!(refused(&lacking), "{} without {:?}: {lacking:?}", row.operation, row.asked.last());
        let exact = call(&key("E", at), row);
        assert!(!refused(&exact), "{} with {:?}: {exact:?}", row.operation, row.asked);
    }
}

#[test]
fn every_operation_of_the_query_services_refuses_nobody_and_the_powerless() {
    let house = House::new();
    let (nobody, powerless) = (house.signer(None), house.signer(Some(POWERLESS)));
    let members = "RoleArn=arn:aws:iam::000000000000:role/ecsTaskExecutionRole&RoleSessionName=s\
                   &UserName=powerless&GroupName=g&RoleName=r&PolicyName=p&InstanceProfileName=i&AccessKeyId=k\
                   &PolicyArn=arn:aws:iam::aws:policy/BerthPullOnly\
                   &PolicySourceArn=arn:aws:iam::000000000000:user/powerless\
                   &Url=https://token.example&ClientID=c&WebIdentityToken=a.b.c\
                   &OpenIDConnectProviderArn=arn:aws:iam::000000000000:oidc-provider/token.example";
    let sts = Sts::OPERATIONS.iter().map(|name| ("sts", "2011-06-15", *name, "AccessDenied"));
    let iam = Iam::operation_names().iter().map(|name| ("iam", "2010-05-08", *name, "AccessDenied"));
    let mut asked = 0;
    for (service, version, operation, refusal) in sts.chain(iam) {
        let form = format!("{operation}&{members}");
        let answer = nobody.query(service, version, &form);
        // A token stands in for the signature there.
        let unsigned = operation == "AssumeRoleWithWebIdentity";
        let expected = if unsigned { "InvalidIdentityToken" } else { "MissingAuthenticationToken" };
        assert_eq!(exception(&answer), expected, "{operation}: {answer:?}");
        let answer = powerless.query(service, version, &form);
        // Whoever has a key may ask who he is, and for a session of himself.
        if matches!(operation, "GetCallerIdentity" | "GetSessionToken") {
            assert_eq!(answer.status, 200, "{operation}: {answer:?}");
        } else {
            assert_eq!(exception(&answer), refusal, "{operation}: {answer:?}");
        }
        asked += 1;
    }
    assert!(asked > 150, "{asked}");
    let administrator = Signer::administrator(&house.server);
    let unsupported = administrator.query("iam", "2010-05-08", "CreateVirtualMFADevice");
    assert_eq!(exception(&unsupported), "UnsupportedOperationException", "{unsupported:?}");
    assert_eq!(exception(&administrator.query("iam", "2010-05-08", "ListCats")), "InvalidAction");
    assert_eq!(exception(&administrator.call(&ECS, "ListCats", "{}")), "UnknownOperationException");
}

/// A path of every route; `{}` is the repository.
fn routes(house: &House, repository: &str) -> Vec<String> {
    let (image, layer) = (&house.image, &house.layer);
    let below = [
        "tags/list".to_owned(),
        format!("referrers/{image}"),
        "manifests/1".to_owned(),
        format!("manifests/{image}"),
        format!("manifests/{image}?tag=2"),
        format!("blobs/{layer}"),
        "blobs/uploads/".to_owned(),
        format!("blobs/uploads/?digest={layer}"),
        format!("blobs/uploads/?mount={layer}&from=app"),
        "blobs/uploads/00000000000000000000000000000000".to_owned(),
        format!("blobs/uploads/00000000000000000000000000000000?digest={layer}"),
    ];
    let below = below.iter().map(|path| format!("/v2/{repository}/{path}"));
    ["/v2/".to_owned(), "/v2/_catalog".to_owned()].into_iter().chain(below).collect()
}

fn send(http: &Http, method: &str, path: &str) -> Response {
    http.send(method, path, &[("content-type", MANIFEST)], if method == "HEAD" { b"" } else { b"{}" })
}

#[test]
fn every_route_and_verb_of_the_registry_refuses_nobody_the_powerless_and_guests() {
    let house = House::new();
    let before = house.everything();
    let nobody = house.server.anonymous();
    let (powerless, guest) = (nobody.basic(POWERLESS, SECRET), nobody.basic(GUEST, SECRET));
    let bearer =
        |query: &str| nobody.get(&format!("/token?{query}")).json()["token"].as_str().unwrap().to_owned();
    let scope = "scope=repository:app:*&scope=repository:absent:*&scope=registry:catalog:*";
    let no_one = nobody.bearer(&bearer(scope));
    let bearer = guest.get(&format!("/token?{scope}")).json()["token"].as_str().unwrap().to_owned();
    let with_token = nobody.bearer(&bearer);
    for (there, absent) in routes(&house, "app").iter().zip(routes(&house, "absent")) {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let answers = |http: &Http| (send(http, method, there), send(http, method, &absent));
            let (anonymous, _) = answers(&nobody);
            if anonymous.status == 405 {
                continue;
            }
            assert_eq!(anonymous.status, 401, "{method} {there}: {anonymous:?}");
            assert!(anonymous.header("www-authenticate").unwrap().starts_with("Bearer realm="));
            assert_eq!(answers(&powerless).0.status, 403, "{method} {there}");
            let known_to_guests = matches!(there.as_str(), "/v2/" | "/v2/_catalog");
            for (who, http, refused) in [
                ("guest", &guest, 403),
                ("guest's token", &with_token, 403),
                ("token of nobody", &no_one, 401),
            ] {
                let (one, other) = answers(http);
                if known_to_guests {
                    let listed = String::from_utf8_lossy(&one.body).contains("app");
                    assert!(!listed && [200, 401].contains(&one.status), "{who} {method} {there}: {one:?}");
                    continue;
                }
                assert_eq!(one.status, refused, "{who} {method} {there}: {one:?}");
                let text =
                    String::from_utf8_lossy(&other.body).replace("repository/absent", "repository/app");
                assert_eq!(
                    (other.status, text.as_bytes()),
                    (one.status, &*one.body),
                    "{who} {method} {there} tells what exists"
                );
            }
        }
    }
    let operations: Vec<&str> = Oci::operations().collect();
    for line in house.audit(GUEST, &operations).iter().filter(|line| line["decision"] == "allow") {
        assert_eq!(line["action"], "ecr:GetAuthorizationToken", "{line}");
    }
    assert_eq!(house.everything(), before);
}

#[test]
fn paths_that_are_no_protocols_tell_strangers_nothing() {
    let server = Server::start();
    let nobody = server.anonymous();
    for (path, status) in
        [("/healthz", 200), ("/readyz", 200), ("/metrics", 401), ("/ws", 400), ("/console", 404), ("/", 405)]
    {
        let answer = nobody.get(path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(answer.body.len() < 200, "{path}: {answer:?}");
    }
    for token in ["", "berth-join-", &format!("berth-join-{}", "0".repeat(64))] {
        let answer = nobody.post("/join", &[], json!({"token": token}).to_string().as_bytes());
        assert_eq!(answer.status, 403, "{token}: {answer:?}");
    }
}
