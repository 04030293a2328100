//! A client that changes things, and knows at each moment what it was told.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use test_support::{Http, Response, Server, eventually, sha256};

use crate::signed::{BERTH, ECR, Signer};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Images of one shelf at most: every check looks at each of them.
const IMAGES: usize = 24;

/// Numbers that are the same in each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.below(20_000) + 1;
        (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(len as usize).collect()
    }
}

/// Who asks for changes and looks for them.
pub(crate) struct Client {
    http: Http,
    signer: Signer,
}

impl Client {
    pub(crate) fn new(server: &Server) -> Self {
        Self { http: server.http(), signer: Signer::administrator(server) }
    }

    /// What the server answers, once it can: one that gets no turn on a busy machine says so, and is asked again.
    fn get(&self, path: &str) -> Response {
        eventually("the server can answer", || {
            let answer = self.http.get(path);
            (answer.status != 503).then_some(answer)
        })
    }

    fn manifest(&self, repository: &str, reference: &str) -> (u16, Option<String>) {
        let answer = self.get(&format!("/v2/{repository}/manifests/{reference}"));
        let digest = answer.header("docker-content-digest").map(str::to_owned);
        assert!(answer.status != 200 || digest.as_deref() == Some(&digest_of(&answer.body)));
        (answer.status, digest)
    }

    /// Whether the server still takes a join token.
    fn takes(&self, token: &str) -> bool {
        let body = json!({ "token": token }).to_string();
        let answer = eventually("the server can answer", || {
            let answer = self.http.post("/join", &[], body.as_bytes());
            (answer.status != 503).then_some(answer)
        });
        assert!(answer.status == 200 || answer.status == 400 || answer.status == 403, "{answer:?}");
        answer.status == 200
    }
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// A change that was asked for.
enum Change {
    Push { tag: String, digest: String, layer: String },
    Delete { digest: String, layer: String },
    Policy { text: String },
    Revoke { token: String },
}

/// Why a change was not acknowledged: it may have come to pass all the same.
enum Lost {
    /// The server said that it cannot.
    Refused,
    /// No answer came.
    Gone,
}

/// One client's repository: what the server said is in it.
pub(crate) struct Shelf {
    repository: String,
    random: Random,
    /// Layers of manifests, by the manifests' digests.
    images: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    blobs: Vec<String>,
    policy: Option<String>,
    revoked: Vec<String>,
    /// What is being asked for.
    asked: Option<Change>,
    /// What was asked for and not acknowledged.
    open: Vec<Change>,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
}

impl Shelf {
    pub(crate) fn new(client: u64, seed: u64) -> Self {
        Self {
            repository: format!("shelf/{client}"),
            random: Random(seed | 1),
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            blobs: Vec::new(),
            policy: None,
            revoked: Vec::new(),
            asked: None,
            open: Vec::new(),
            acknowledged: 0,
            refused: 0,
        }
    }

    /// Changes one thing after another, so many or until no answer comes. Whether all were answered.
    pub(crate) fn work(&mut self, client: &Client, most: u64) -> bool {
        for _ in 0..most {
            let outcome = self.change(client);
            match (outcome, self.asked.take()) {
                (Ok(()), Some(change)) => {
                    self.apply(change);
                    self.acknowledged += 1;
                }
                (Ok(()), None) => {}
                (Err(lost), change) => {
                    self.open.extend(change);
                    match lost {
                        Lost::Refused => self.refused += 1,
                        Lost::Gone => return false,
                    }
                }
            }
        }
        true
    }

    fn change(&mut self, client: &Client) -> Result<(), Lost> {
        let drawn = self.random.below(10);
        match if self.images.len() < IMAGES { drawn } else { 0 } {
            0 | 1 if !self.images.is_empty() => {
                let at = self.random.below(self.images.len() as u64) as usize;
                let digest = self.images.keys().nth(at).unwrap().clone();
                let path = format!("/v2/{}/manifests/{digest}", self.repository);
                let layer = self.images.remove(&digest).unwrap();
                self.asked = Some(Change::Delete { digest, layer });
                acknowledged(client.http.try_send("DELETE", &path, &[], b"").ok(), 202).map(drop)
            }
            2 if !self.images.is_empty() => {
                let statement = json!({"Sid": format!("n{}", self.random.next()), "Effect": "Allow",
                    "Principal": "*", "Action": "ecr:BatchGetImage"});
                let text = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
                let input = json!({"repositoryName": self.repository, "policyText": text});
                self.asked = Some(Change::Policy { text });
                let answer = client.signer.try_call(&ECR, "SetRepositoryPolicy", &input.to_string());
                acknowledged(answer, 200).map(drop)
            }
            3 => {
                let made = client.signer.try_call(&BERTH, "CreateJoinToken", r#"{"cluster": "default"}"#);
                let made = acknowledged(made, 200)?.json();
                let input = json!({"cluster": "default", "joinTokenId": made["joinTokenId"]});
                self.asked = Some(Change::Revoke { token: made["token"].as_str().unwrap().to_owned() });
                let answer = client.signer.try_call(&BERTH, "RevokeJoinToken", &input.to_string());
                acknowledged(answer, 200).map(drop)
            }
            _ => self.push(client),
        }
    }

    /// An image of one layer, under a new tag or one that moves.
    fn push(&mut self, client: &Client) -> Result<(), Lost> {
        let layer = self.random.bytes();
        self.push_blob(client, &layer)?;
        self.push_blob(client, b"{}")?;
        let descriptor = |kind: &str, bytes: &[u8]| {
            let kind = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": kind, "digest": digest_of(bytes), "size": bytes.len()})
        };
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor("config.v1+json", b"{}"),
            "layers": [descriptor("layer.v1.tar", &layer)]});
        let manifest = manifest.to_string().into_bytes();
        let tag = format!("t{}", self.random.below(6));
        let path = format!("/v2/{}/manifests/{tag}", self.repository);
        self.asked = Some(Change::Push { tag, digest: digest_of(&manifest), layer: digest_of(&layer) });
        let answer = client.http.try_send("PUT", &path, &[("content-type", MANIFEST)], &manifest);
        acknowledged(answer.ok(), 201).map(drop)
    }

    fn push_blob(&mut self, client: &Client, bytes: &[u8]) -> Result<(), Lost> {
        let digest = digest_of(bytes);
        let path = format!("/v2/{}/blobs/uploads/?digest={digest}", self.repository);
        let headers = [("content-type", "application/octet-stream")];
        acknowledged(client.http.try_send("POST", &path, &headers, bytes).ok(), 201)?;
        self.blobs.push(digest);
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Push { tag, digest, layer } => {
                self.images.insert(digest.clone(), layer);
                self.tags.insert(tag, digest);
            }
            Change::Delete { digest, .. } => self.tags.retain(|_, tagged| *tagged != digest),
            Change::Policy { text } => self.policy = Some(text),
            Change::Revoke { token } => self.revoked.push(token),
        }
    }

    /// Finds out whether what was not acknowledged came to pass; either will do.
    pub(crate) fn settle(&mut self, client: &Client) {
        for change in std::mem::take(&mut self.open) {
            match change {
                Change::Push { tag, digest, layer } => {
                    if client.manifest(&self.repository, &digest).0 == 404 {
                        continue;
                    }
                    // Another image may have got the tag since.
                    if client.manifest(&self.repository, &tag).1.as_ref() == Some(&digest) {
                        self.tags.insert(tag, digest.clone());
                    }
                    self.images.insert(digest, layer);
                }
                Change::Delete { digest, layer } => {
                    if client.manifest(&self.repository, &digest).0 == 404 {
                        self.apply(Change::Delete { digest, layer });
                    } else {
                        self.images.insert(digest, layer);
                    }
                }
                Change::Policy { text } => {
                    if self.policy(client).as_ref() == Some(&text) {
                        self.policy = Some(text);
                    }
                }
                Change::Revoke { token } => {
                    let _ = client.takes(&token);
                }
            }
        }
    }

    fn policy(&self, client: &Client) -> Option<String> {
        let input = json!({"repositoryName": self.repository}).to_string();
        let answer = eventually("the server can answer", || {
            let answer = client.signer.call(&ECR, "GetRepositoryPolicy", &input);
            (answer.status < 500).then_some(answer)
        });
        answer.json()["policyText"].as_str().map(str::to_owned)
    }

    /// Everything acknowledged is there, and nothing else is.
    pub(crate) fn check(&mut self, client: &Client, random: &mut Random) {
        let repository = self.repository.clone();
        if !self.images.is_empty() {
            let listed = client.get(&format!("/v2/{repository}/tags/list")).json();
            let listed: Vec<&str> =
                listed["tags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            assert_eq!(listed, self.tags.keys().collect::<Vec<_>>(), "{repository}");
        }
        for (tag, digest) in &self.tags {
            assert_eq!(client.manifest(&repository, tag), (200, Some(digest.clone())), "{repository}:{tag}");
        }
        for (digest, layer) in &self.images {
            assert_eq!(client.manifest(&repository, digest).0, 200, "{repository}@{digest}");
            // Of all layers some each time, for these are what takes long to read.
            if random.below(4) == 0 {
                let blob = client.get(&format!("/v2/{repository}/blobs/{layer}"));
                assert_eq!((blob.status, digest_of(&blob.body)), (200, layer.clone()), "{repository}");
            }
        }
        for digest in self.blobs.drain(..) {
            let blob = client.get(&format!("/v2/{repository}/blobs/{digest}"));
            assert_eq!((blob.status, digest_of(&blob.body)), (200, digest), "{repository}");
        }
        assert_eq!(self.policy(client), self.policy, "{repository}");
        for token in self.revoked.drain(..) {
            assert!(!client.takes(&token), "{repository}: a revoked token");
        }
    }
}

/// The answer, if it is the one that is due or says that the server cannot; there is no other.
fn acknowledged(answer: Option<Response>, due: u16) -> Result<Response, Lost> {
    match answer {
        None => Err(Lost::Gone),
        Some(answer) if answer.status >= 500 => Err(Lost::Refused),
        Some(answer) => {
            assert_eq!(answer.status, due, "{answer:?}");
            Ok(answer)
        }
    }
}
