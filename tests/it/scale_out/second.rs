//! The second within which a revocation acts everywhere, whatever goes on at that moment.
//!
//! A server that has not looked for a second decides nothing. So from a second after the acknowledgement on nothing
//! that was revoked is let through, however busy the machine is.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::{Server, eventually, sha256};

use super::installation::{Installation, between, iam, signer};
use crate::attacks::{Host, poll_query};
use crate::issuer::Issuer;
use crate::policy_files::Files;
use crate::signed::{BERTH, ECR, Signer};

const PROMISED: Duration = Duration::from_secs(1);
/// Half of a push.
const PIECE: usize = 200_000;

/// For a while from a second after the acknowledgement on, nothing is let through.
fn never_again(acknowledged: Instant, status: impl Fn() -> u16) {
    thread::sleep(PROMISED.saturating_sub(acknowledged.elapsed()));
    for _ in 0..20 {
        let status = status();
        assert!(matches!(status, 400 | 401 | 403 | 503), "{status}, {:?} later", acknowledged.elapsed());
    }
}

#[test]
fn a_disabled_key_is_good_for_nothing_on_another_server_and_what_it_has_begun_breaks_off() {
    let installation = Installation::new();
    let (here, there) = (installation.builder().start(), installation.builder().start());
    let admin = signer(&here);
    iam(&admin, "CreateUser&UserName=alice");
    let everything = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C\
                      %22Action%22%3A%22ecr%3A*%22%2C%22Resource%22%3A%22*%22%7D%5D%7D";
    iam(&admin, &format!("PutUserPolicy&UserName=alice&PolicyName=all&PolicyDocument={everything}"));
    let key = iam(&admin, "CreateAccessKey&UserName=alice");
    let (id, secret) = (between(&key, "AccessKeyId").to_owned(), between(&key, "SecretAccessKey").to_owned());
    let content: Vec<u8> = (0..48_u32 << 20).map(|at| (at >> 7) as u8).collect();
    super::installation::admin(&here).push_blob("app", &content);
    let alice = there.anonymous().basic(&id, &secret);
    let path = format!("/v2/app/blobs/sha256:{}", sha256(&content));
    eventually("the other server knows the key", || (alice.head(&path).status == 200).then_some(()));
    let token = alice.get("/token?service=berth&scope=repository:app:pull").json();
    let bearer = there.anonymous().bearer(token["token"].as_str().unwrap());
    assert_eq!(bearer.head(&path).status, 200);

    // Eight mebibytes a second at the most: it would take six.
    let mut pull = TcpStream::connect(there.authority()).unwrap();
    let authorization = alice.authorization().unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\n\r\n",
        there.authority()
    );
    pull.write_all(head.as_bytes()).unwrap();
    let mut piece = vec![0; 64 << 10];
    let first = pull.read(&mut piece).unwrap();
    assert!(piece.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&piece[..first]));
    let reading = thread::spawn(move || {
        let mut total = first;
        loop {
            thread::sleep(Duration::from_millis(8));
            match pull.read(&mut piece) {
                Ok(0) => return total,
                Ok(length) => total += length,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                    return total;
                }
            }
        }
    });
    // And a push, half of which has come.
    let location = alice.post("/v2/app/blobs/uploads/", &[], b"").header("location").unwrap().to_owned();
    let mut upload = TcpStream::connect(there.authority()).unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
        there.authority(),
        2 * PIECE
    );
    upload.write_all(head.as_bytes()).unwrap();
    upload.write_all(&vec![7; PIECE]).unwrap();

    iam(&admin, &format!("UpdateAccessKey&UserName=alice&AccessKeyId={id}&Status=Inactive"));
    let acknowledged = Instant::now();
    never_again(acknowledged, || alice.head(&path).status);
    never_again(acknowledged, || bearer.head(&path).status);
    // The server may have closed it already.
    let _ = upload.write_all(&vec![7; PIECE]);
    upload.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answer = [0; 1024];
    let length = upload.read(&mut answer).unwrap_or(0);
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer[..length]));
    let pulled = reading.join().unwrap();
    assert!(pulled < content.len(), "the pull went on to its end");
    println!("{} MiB came before the pull broke off", pulled >> 20);
}

#[test]
fn a_revoked_hosts_connection_to_another_server_is_closed() {
    let installation = Installation::new();
    // Whichever of them leads, the other one passes on what is the leader's.
    let servers = [(); 2].map(|()| {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        installation.builder().config(&format!("peer_listen = \"127.0.0.1:{port}\"")).start()
    });
    let admin = signer(&servers[0]);
    // What is timed is repeated: a machine may be busy once.
    let mut took = Vec::new();
    for _ in 0..5 {
        let token = admin.call(&BERTH, "CreateJoinToken", "{}").json()["token"].as_str().unwrap().to_owned();
        let host = Host::with_token(&servers[1], &token);
        let registered = eventually("the host is registered", || {
            let answer = host.register(json!({"clientToken": "boot"}));
            (answer.status == 200).then(|| answer.json())
        });
        let arn = registered["containerInstance"]["containerInstanceArn"].as_str().unwrap().to_owned();
        let (mut connection, answer) = host.connect(&poll_query(&arn));
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        let closed = thread::spawn(move || {
            connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut piece = [0; 4096];
            while connection.read(&mut piece).unwrap_or(0) > 0 {}
            Instant::now()
        });
        let input = json!({ "containerInstance": arn }).to_string();
        let revoked = admin.call(&BERTH, "RevokeInstance", &input);
        assert_eq!(revoked.status, 200, "{revoked:?}");
        let acknowledged = Instant::now();
        never_again(acknowledged, || host.ecs("DiscoverPollEndpoint", &json!({})).status);
        took.push(closed.join().unwrap().saturating_duration_since(acknowledged));
        if took.last() < Some(&PROMISED) {
            break;
        }
    }
    println!("closed after {took:?}");
    assert!(took.iter().any(|took| *took < PROMISED), "{took:?}");
}

#[test]
fn a_session_of_a_ci_system_that_one_server_made_ends_where_another_revokes_it() {
    let issuer = Issuer::start();
    let installation = Installation::new();
    let shared = tempfile::tempdir().unwrap();
    let (ca, directory) = (shared.path().join("ca.pem"), shared.path().join("set"));
    std::fs::write(&ca, &issuer.ca).unwrap();
    let name = &issuer.name;
    let files = Files::new(&directory);
    files.write("oidcProviders/ci.json", &json!({"url": format!("https://{name}"), "clientIds": ["berth"]}));
    files.write(
        "roles/ci.json",
        &json!({
            "trustPolicy": {"Version": "2012-10-17", "Statement": {
                "Effect": "Allow",
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Principal": {"Federated": format!("arn:aws:iam::000000000000:oidc-provider/{name}")},
                "Condition": {
                    "StringEquals": {format!("{name}:aud"): "berth"},
                    "StringLike": {format!("{name}:sub"): "repo:team/app:*"},
                },
            }},
            "inlinePolicies": {"list": {"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "ecr:DescribeRepositories", "Resource": "*"},
            ]}},
        }),
    );
    let oidc = format!("oidc_ca_file = {ca:?}\noidc_private_hosts = [{name:?}]");
    let here = installation.builder().config(&oidc).config(&format!("policy_dir = {directory:?}")).start();
    let there = installation.builder().config(&oidc).start();
    let assume = |server: &Server| {
        let form = format!(
            "AssumeRoleWithWebIdentity&RoleSessionName=job-7&RoleArn=arn:aws:iam::000000000000:role/ci\
             &WebIdentityToken={}",
            issuer.token("repo:team/app:ref:main")
        );
        let answer = Signer::new(server.endpoint(), None).query("sts", "2011-06-15", &form);
        (answer.status == 200).then(|| String::from_utf8(answer.body).unwrap())
    };
    let session = eventually("the role is there on the other server", || assume(&there));
    let field = |name| between(&session, name).to_owned();
    let of = |server: &Server| {
        let (id, secret, token) = (field("AccessKeyId"), field("SecretAccessKey"), field("SessionToken"));
        Signer::session(server.endpoint(), (&id, &secret), &token)
    };
    let status = |job: &Signer| job.call(&ECR, "DescribeRepositories", "{}").status;
    let (job_here, job_there) = (of(&here), of(&there));
    assert_eq!((status(&job_here), status(&job_there)), (200, 200), "a session is good everywhere");

    let principal = json!({"principal": "arn:aws:iam::000000000000:role/ci"}).to_string();
    let revoked = signer(&here).call(&BERTH, "RevokeSessions", &principal);
    assert_eq!(revoked.status, 200, "{revoked:?}");
    let acknowledged = Instant::now();
    assert_eq!(status(&job_here), 400, "where it was revoked at once");
    never_again(acknowledged, || status(&job_there));
    // The job can have a new one: its role is as it was.
    assert!(assume(&there).is_some());
}
