//! What exists is told only to those who may know: same answer for forbidden and absent, for a wrong key and
//! an unknown one, for somebody else's upload and none.

use serde_json::{Value, json};
use test_support::{Http, Server, eventually};

use crate::policy_files::{Files, SECRET};
use crate::signed::{ECR, Signer};

const ALICE: &str = "AKIAALICE0000000";
const BOB: &str = "AKIABOB000000000";

/// A server where alice may do everything with `hers`, and bob with `his`; both push to `ours`.
fn server() -> (Server, Http, Http) {
    let builder = Server::builder();
    let dir = builder.data().join("policies");
    let files = Files::new(&dir);
    for (name, key, own) in [("alice", ALICE, "hers"), ("bob", BOB, "his")] {
        let arns = [own, "ours"].map(|name| format!("arn:aws:ecr:*:*:repository/{name}"));
        files.user(
            name,
            key,
            &json!([
                {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
                {"Effect": "Allow", "Action": "ecr:*", "Resource": arns},
            ]),
        );
    }
    let server = builder.start();
    let (alice, bob) = (server.anonymous().basic(ALICE, SECRET), server.anonymous().basic(BOB, SECRET));
    eventually("the files are in effect", || (bob.get("/v2/").status == 200).then_some(()));
    (server, alice, bob)
}

#[test]
fn a_mount_from_a_forbidden_repository_is_as_one_from_nowhere() {
    let (_server, alice, bob) = server();
    let secret = alice.push_blob("hers", b"secret");
    bob.push_blob("his", b"{}");
    let mount = |digest: &str, from: &str| {
        let answer = bob.post(&format!("/v2/his/blobs/uploads/?mount={digest}&from={from}"), &[], b"");
        let mut headers = answer.headers.clone();
        for unique in ["location", "docker-upload-uuid", "date"] {
            headers.remove(unique);
        }
        (answer.status, headers, answer.body)
    };
    let forbidden = mount(&secret, "hers");
    assert_eq!(forbidden.0, 202);
    assert_eq!(forbidden, mount(super::MISSING, "hers"));
    assert_eq!(forbidden, mount(&secret, "nowhere"));
    assert_eq!(bob.get(&format!("/v2/his/blobs/{secret}")).status, 404);
    // Nor does a manifest make visible what it names.
    let config = json!({"mediaType": "a/b", "digest": secret, "size": 6});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": []}).to_string();
    let types = [("content-type", super::OCI_MANIFEST)];
    assert_eq!(
        bob.put("/v2/his/manifests/x", &types, manifest.as_bytes()).oci_code(),
        "MANIFEST_BLOB_UNKNOWN"
    );
}

#[test]
fn an_upload_belongs_to_its_user_and_repository() {
    let (server, alice, bob) = server();
    let started = alice.post("/v2/ours/blobs/uploads/", &[], b"");
    let location = started.header("location").unwrap().to_owned();
    assert_eq!(alice.patch(&location, &[], b"hello").status, 202);
    alice.push_blob("hers", b"{}");
    let elsewhere = location.replace("/ours/", "/hers/");
    let nothing = "/v2/ours/blobs/uploads/00000000-0000-0000-0000-000000000000";
    let digest = test_support::sha256(b"hello");
    for (who, http, path) in [
        ("bob", &bob, location.as_str()),
        ("another repository", &alice, &elsewhere),
        ("nobody's", &bob, nothing),
    ] {
        let put = format!("{path}?digest=sha256:{digest}");
        for (method, path) in [("GET", path), ("PATCH", path), ("PUT", &put), ("DELETE", path)] {
            let answer =
                http.send(method, path, &[], if ["PATCH", "PUT"].contains(&method) { b"x" } else { b"" });
            let expected = (404, "BLOB_UPLOAD_UNKNOWN".to_owned());
            assert_eq!((answer.status, answer.oci_code()), expected, "{who} {method}");
        }
    }
    assert_eq!(alice.put(&format!("{location}?digest=sha256:{digest}"), &[], b"").status, 201);

    // The same by ECR's API.
    let call = |key, operation: &str, body: &Value| {
        Signer::new(server.endpoint(), Some((key, SECRET))).call(&ECR, operation, &body.to_string())
    };
    let started = call(ALICE, "InitiateLayerUpload", &json!({"repositoryName": "ours"})).json();
    let of = |repository: &str, more: Value| {
        let mut body = json!({"repositoryName": repository, "uploadId": started["uploadId"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let part = json!({"partFirstByte": 0, "partLastByte": 4, "layerPartBlob": "aGVsbG8="});
    let complete = json!({"layerDigests": [format!("sha256:{digest}")]});
    let steps = [("UploadLayerPart", &part), ("CompleteLayerUpload", &complete)];
    for (operation, more) in steps {
        for (key, repository) in [(BOB, "ours"), (ALICE, "hers")] {
            let answer = call(key, operation, &of(repository, more.clone()));
            assert_eq!(answer.json()["__type"], "UploadNotFoundException", "{key} {operation}: {answer:?}");
        }
        let own = call(ALICE, operation, &of("ours", more.clone()));
        assert_eq!(own.status, 200, "{operation}: {own:?}");
    }
}

#[test]
fn an_unknown_key_is_told_as_a_wrong_secret() {
    let (server, ..) = server();
    let (known, unknown) = ((ALICE, "wrong"), ("AKIANOBODY000000", "wrong"));
    let basic = |(key, secret): (&str, &str), path: &str| {
        let answer = server.anonymous().basic(key, secret).get(path);
        (answer.status, answer.body, answer.headers.get("www-authenticate").cloned())
    };
    for path in ["/v2/", "/v2/hers/tags/list", "/v2/absent/tags/list", "/token"] {
        let refused = basic(known, path);
        assert_eq!(refused.0, 401, "{path}");
        assert_eq!(refused, basic(unknown, path), "{path}");
    }
    let signed = |credentials| {
        let answer =
            Signer::new(server.endpoint(), Some(credentials)).call(&ECR, "DescribeRepositories", "{}");
        (answer.status, answer.body)
    };
    assert_eq!(signed(known), signed(unknown));
}
