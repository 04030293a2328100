//! Power cuts: whatever was acknowledged is on the disk at that moment.
//!
//! The data directory is a file system in a file. While clients write, the server is stopped between two
//! instructions, what its disk holds at that moment is kept, everything else is thrown away, and a server starts on it.
//! Its clients know what they were told, and that one request each was under way.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Disk, Http, Server, sha256};

use crate::signed::{BERTH, ECR, Signer};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CLIENTS: u64 = 4;

#[test]
fn nothing_acknowledged_is_lost_in_fifty_power_cuts() {
    power_cuts("ext4", 256, 50);
}

#[test]
#[ignore = "long: a thousand power cuts"]
fn nothing_acknowledged_is_lost_in_a_thousand_power_cuts_on_ext4() {
    power_cuts("ext4", 1024, 1000);
}

#[test]
#[ignore = "long: a thousand power cuts"]
fn nothing_acknowledged_is_lost_in_a_thousand_power_cuts_on_xfs() {
    power_cuts("xfs", 1024, 1000);
}

fn power_cuts(filesystem: &str, mebibytes: u64, cuts: u64) {
    let builder = Server::builder();
    let disk = Disk::format(filesystem, mebibytes, builder.data());
    // The disk goes after the server that writes to it.
    let (mut disk, mut server) = (disk, builder.start());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut shelves: Vec<Shelf> = (0..CLIENTS).map(|client| Shelf::new(client, random.next())).collect();
    for cut in 0..cuts {
        let unsynced = server.data().join(format!("unsynced-{cut}"));
        let picture = std::thread::scope(|scope| {
            for shelf in &mut shelves {
                let client = Client::new(&server);
                scope.spawn(move || shelf.work(&client));
            }
            std::thread::sleep(Duration::from_millis(random.below(300)));
            // What a cut takes away: bytes that nobody asked to be kept.
            std::fs::write(&unsynced, b"never to be seen").unwrap();
            server.process().pause();
            let picture = disk.cut_power();
            server.kill();
            picture
        });
        disk.restore_power(picture);
        let kept = std::fs::read(&unsynced).unwrap_or_default();
        assert!(kept.is_empty(), "the cut took nothing away");
        server.start_again();
        let client = Client::new(&server);
        for shelf in &mut shelves {
            shelf.settle(&client);
            shelf.check(&client, &mut random);
        }
    }
    let made: u64 = shelves.iter().map(|shelf| shelf.acknowledged).sum();
    println!("{filesystem}: {cuts} power cuts, {made} acknowledged changes, all there");
    assert!(made > cuts);
    server.stop();
    drop((server, disk));
}

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.below(20_000) + 1;
        (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(len as usize).collect()
    }
}

struct Client {
    http: Http,
    signer: Signer,
}

impl Client {
    fn new(server: &Server) -> Self {
        Self { http: server.http(), signer: Signer::administrator(server) }
    }

    fn manifest(&self, repository: &str, reference: &str) -> (u16, Option<String>) {
        let answer = self.http.get(&format!("/v2/{repository}/manifests/{reference}"));
        let digest = answer.header("docker-content-digest").map(str::to_owned);
        assert!(answer.status != 200 || digest.as_deref() == Some(&digest_of(&answer.body)));
        (answer.status, digest)
    }

    /// Whether the server still takes a join token.
    fn takes(&self, token: &str) -> bool {
        let answer = self.http.post("/join", &[], json!({ "token": token }).to_string().as_bytes());
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
    Delete { digest: String },
    Policy { text: String },
    Revoke { token: String },
}

/// One client's repository: what the server said is in it.
struct Shelf {
    repository: String,
    random: Random,
    /// Layers of manifests, by the manifests' digests.
    images: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    blobs: Vec<String>,
    policy: Option<String>,
    revoked: Vec<String>,
    /// What was asked for last, if no answer came.
    open: Option<Change>,
    acknowledged: u64,
}

impl Shelf {
    fn new(client: u64, seed: u64) -> Self {
        Self {
            repository: format!("shelf/{client}"),
            random: Random(seed | 1),
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            blobs: Vec::new(),
            policy: None,
            revoked: Vec::new(),
            open: None,
            acknowledged: 0,
        }
    }

    /// Changes one thing after another until no answer comes.
    fn work(&mut self, client: &Client) {
        while self.change(client).is_some() {
            if let Some(change) = self.open.take() {
                self.apply(change);
                self.acknowledged += 1;
            }
        }
    }

    /// Asks for one change; `None` when the answer did not come.
    fn change(&mut self, client: &Client) -> Option<()> {
        match self.random.below(10) {
            0 | 1 if !self.images.is_empty() => {
                let at = self.random.below(self.images.len() as u64) as usize;
                let digest = self.images.keys().nth(at).unwrap().clone();
                let path = format!("/v2/{}/manifests/{digest}", self.repository);
                self.open = Some(Change::Delete { digest });
                expect(client.http.try_send("DELETE", &path, &[], b"").ok()?.status, 202)
            }
            2 if !self.images.is_empty() => {
                let statement = json!({"Sid": format!("n{}", self.random.next()), "Effect": "Allow",
                    "Principal": "*", "Action": "ecr:BatchGetImage"});
                let text = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
                let input = json!({"repositoryName": self.repository, "policyText": text});
                self.open = Some(Change::Policy { text });
                let answer = client.signer.try_call(&ECR, "SetRepositoryPolicy", &input.to_string())?;
                expect(answer.status, 200)
            }
            3 => {
                let made =
                    client.signer.try_call(&BERTH, "CreateJoinToken", r#"{"cluster": "default"}"#)?.json();
                let input = json!({"cluster": "default", "joinTokenId": made["joinTokenId"]});
                self.open = Some(Change::Revoke { token: made["token"].as_str().unwrap().to_owned() });
                expect(client.signer.try_call(&BERTH, "RevokeJoinToken", &input.to_string())?.status, 200)
            }
            _ => self.push(client),
        }
    }

    /// An image of one layer, under a new tag or one that moves.
    fn push(&mut self, client: &Client) -> Option<()> {
        let layer = self.random.bytes();
        self.push_blob(client, &layer)?;
        self.push_blob(client, b"{}")?;
        let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest_of(bytes), "size": bytes.len()});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor("config.v1+json", b"{}"),
            "layers": [descriptor("layer.v1.tar", &layer)]});
        let manifest = manifest.to_string().into_bytes();
        let tag = format!("t{}", self.random.below(6));
        let path = format!("/v2/{}/manifests/{tag}", self.repository);
        self.open = Some(Change::Push { tag, digest: digest_of(&manifest), layer: digest_of(&layer) });
        let answer = client.http.try_send("PUT", &path, &[("content-type", MANIFEST)], &manifest).ok()?;
        expect(answer.status, 201)
    }

    fn push_blob(&mut self, client: &Client, bytes: &[u8]) -> Option<()> {
        let digest = digest_of(bytes);
        let path = format!("/v2/{}/blobs/uploads/?digest={digest}", self.repository);
        let headers = [("content-type", "application/octet-stream")];
        expect(client.http.try_send("POST", &path, &headers, bytes).ok()?.status, 201)?;
        self.blobs.push(digest);
        Some(())
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Push { tag, digest, layer } => {
                self.images.insert(digest.clone(), layer);
                self.tags.insert(tag, digest);
            }
            Change::Delete { digest } => {
                self.images.remove(&digest);
                self.tags.retain(|_, tagged| *tagged != digest);
            }
            Change::Policy { text } => self.policy = Some(text),
            Change::Revoke { token } => self.revoked.push(token),
        }
    }

    /// Finds out whether what was under way came to pass; either will do.
    fn settle(&mut self, client: &Client) {
        let Some(change) = self.open.take() else { return };
        let came_to_pass = match &change {
            Change::Push { tag, digest, .. } => {
                client.manifest(&self.repository, tag).1.as_ref() == Some(digest)
            }
            Change::Delete { digest } => client.manifest(&self.repository, digest).0 == 404,
            Change::Policy { text } => self.policy(client).as_ref() == Some(text),
            Change::Revoke { token } => !client.takes(token),
        };
        if came_to_pass {
            self.apply(change);
        }
    }

    fn policy(&self, client: &Client) -> Option<String> {
        let input = json!({"repositoryName": self.repository}).to_string();
        let answer = client.signer.call(&ECR, "GetRepositoryPolicy", &input).json();
        answer["policyText"].as_str().map(str::to_owned)
    }

    /// Everything acknowledged is there, and nothing else is.
    fn check(&mut self, client: &Client, random: &mut Random) {
        let repository = self.repository.clone();
        if !self.images.is_empty() {
            let listed = client.http.get(&format!("/v2/{repository}/tags/list")).json();
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
                let blob = client.http.get(&format!("/v2/{repository}/blobs/{layer}"));
                assert_eq!((blob.status, digest_of(&blob.body)), (200, layer.clone()), "{repository}");
            }
        }
        for digest in self.blobs.drain(..) {
            let blob = client.http.get(&format!("/v2/{repository}/blobs/{digest}"));
            assert_eq!((blob.status, digest_of(&blob.body)), (200, digest), "{repository}");
        }
        assert_eq!(self.policy(client), self.policy, "{repository}");
        for token in self.revoked.drain(..) {
            assert!(!client.takes(&token), "{repository}: a revoked token");
        }
    }
}

/// Whether the answer is the one that is due: an interrupted server gives none, and no other.
fn expect(status: u16, due: u16) -> Option<()> {
    assert_eq!(status, due);
    Some(())
}
