//! Upstreams that lie, that lead elsewhere, and that cannot show who they are (threats 23, 36, 37, 38, 71).

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use test_support::{Layer, Server, run, run_with_input, sha256, static_image};

use super::upstream::{Answer, Asked, Fake};
use super::{MANIFEST, blobs, cache_of, create_rule, log_in, manifest, push};

const SECRET: &str = "CANARY-upstream-secret";

/// The parts of an image as an honest upstream serves them.
pub(super) struct Image {
    config: Vec<u8>,
    layer: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

impl Image {
    pub(super) fn new(text: &str) -> Self {
        let (config, layer, manifest) =
            static_image("amd64", &[Layer { path: "marker", bytes: text.as_bytes() }]);
        Self { config, layer, manifest }
    }

    pub(super) fn layer_path(&self) -> String {
        format!("/blobs/sha256:{}", sha256(&self.layer))
    }

    pub(super) fn answer(&self, asked: &Asked) -> Answer {
        let digest = format!("sha256:{}", sha256(&self.manifest));
        if asked.path.contains("/manifests/") {
            let headers = [("content-type", MANIFEST), ("docker-content-digest", digest.as_str())];
            return Answer::new(200, &headers, &self.manifest);
        }
        let blobs = [&self.config, &self.layer];
        match blobs.iter().find(|blob| asked.path.ends_with(&sha256(blob))) {
            Some(blob) => Answer::new(200, &[], blob),
            None => Answer::new(404, &[], b"{}"),
        }
    }
}

#[test]
fn what_an_upstream_lies_about_is_neither_served_nor_kept() {
    let image = Arc::new(Image::new("honest"));
    let lies = Arc::new(AtomicBool::new(true));
    let (served, lying) = (Arc::clone(&image), Arc::clone(&lies));
    let fake = Fake::start(move |asked| {
        let mut answer = served.answer(asked);
        if !lying.load(Ordering::SeqCst) {
            return answer;
        }
        let lied = asked.path.contains("/blobs/") || asked.path.ends_with("/lied");
        if let Some(byte) = answer.body.last_mut().filter(|_| lied) {
            *byte ^= 1;
        }
        if asked.path.ends_with("/long") {
            answer.body = vec![b' '; 6 << 20];
        }
        answer
    });
    let cache = cache_of(&fake.url(), "");
    let http = cache.http();
    for tag in ["lied", "long"] {
        let answer = manifest(&http, "hub/app", tag);
        assert_eq!(
            (answer.status, answer.oci_code().as_str()),
            (502, "MANIFEST_UNKNOWN"),
            "{tag}: {answer:?}"
        );
    }
    let pulled = manifest(&http, "hub/app", "1");
    assert_eq!(pulled.body, image.manifest);
    for blob in blobs(&pulled) {
        let path = format!("/v2/hub/app/blobs/{blob}");
        let answer = http.get(&path);
        assert_eq!((answer.status, answer.oci_code().as_str()), (502, "BLOB_UNKNOWN"), "{answer:?}");
    }
    // Another one's manifest under the digest that was asked for.
    let other = format!("sha256:{}", sha256(b"another manifest"));
    let answer = manifest(&http, "hub/app", &other);
    assert_eq!((answer.status, answer.oci_code().as_str()), (502, "MANIFEST_UNKNOWN"), "{answer:?}");
    lies.store(false, Ordering::SeqCst);
    for blob in blobs(&pulled) {
        let answer = http.get(&format!("/v2/hub/app/blobs/{blob}"));
        assert_eq!((answer.status, format!("sha256:{}", sha256(&answer.body))), (200, blob));
    }
    assert!(!cache.log().contains("panicked"), "{}", cache.log());
}

#[test]
fn nothing_an_upstream_says_leads_to_an_address_that_is_not_allowed() {
    let image = Arc::new(Image::new("redirected"));
    let inside = Fake::start(|_| Answer::new(200, &[], b"a secret of this machine"));
    let (target, served) = (inside.url(), Arc::clone(&image));
    let fake = Fake::start(move |asked| {
        if asked.path.ends_with(&served.layer_path()) {
            let to = format!("{target}/latest/meta-data");
            return Answer::new(307, &[("location", to.as_str())], b"");
        }
        served.answer(asked)
    });
    let cache = cache_of(&fake.url(), "");
    let http = cache.http();
    let pulled = manifest(&http, "hub/app", "1");
    assert_eq!(pulled.status, 200, "{pulled:?}");
    let refused = http.get(&format!("/v2/hub/app{}", image.layer_path()));
    assert_eq!((refused.status, refused.oci_code().as_str()), (404, "BLOB_UNKNOWN"), "{refused:?}");
    assert!(inside.asked().is_empty(), "{:?}", inside.asked());
    // Nor does a rule, however it writes the address.
    for forged in ["localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "169.254.169.254"] {
        let refused = create_rule(&cache, "forged", forged).unwrap_err();
        assert!(refused.contains("UnsupportedUpstreamRegistryException"), "{forged}: {refused}");
    }
}

#[test]
fn credentials_go_to_the_upstream_that_they_are_for_alone() {
    let image = Arc::new(Image::new("private"));
    let thief = Fake::start(|_| Answer::new(200, &[], br#"{"token": "stolen"}"#));
    let storage = {
        let image = Arc::clone(&image);
        Fake::start(move |asked| image.answer(asked))
    };
    let steals = Arc::new(AtomicBool::new(true));
    let (theft, realm, elsewhere) = (Arc::clone(&steals), thief.url(), storage.url());
    let served = Arc::clone(&image);
    let fake = Fake::start(move |asked| {
        if theft.load(Ordering::SeqCst) {
            let challenge = format!("Bearer realm=\"{realm}/token\",service=\"a\"");
            return Answer::new(401, &[("www-authenticate", challenge.as_str())], b"");
        }
        if asked.authorization.is_none() {
            return Answer::new(401, &[("www-authenticate", "Basic realm=\"a\"")], b"");
        }
        if asked.path.contains("/blobs/") {
            let to = format!("{elsewhere}{}", asked.path);
            return Answer::new(307, &[("location", to.as_str())], b"");
        }
        served.answer(asked)
    });
    let listed = [&fake, &thief, &storage].map(|one| one.url().trim_start_matches("http://").to_owned());
    let cache = Server::builder().config(&format!("pull_through_private_hosts = {listed:?}")).start();
    create_rule(&cache, "hub", &fake.url()).unwrap();
    run_with_input(&mut cache.berth(["upstream", "login", "hub", "--username", "me"]), SECRET.as_bytes());
    let http = cache.http();
    let refused = manifest(&http, "hub/app", "1");
    assert_eq!(refused.status, 404, "{refused:?}");
    assert!(thief.asked().is_empty(), "{:?}", thief.asked());
    steals.store(false, Ordering::SeqCst);
    let pulled = manifest(&http, "hub/app", "1");
    assert_eq!(pulled.status, 200, "{pulled:?}");
    for blob in blobs(&pulled) {
        assert_eq!(http.get(&format!("/v2/hub/app/blobs/{blob}")).status, 200);
    }
    let asked = storage.asked();
    assert!(asked.len() == 2 && asked.iter().all(|one| one.authorization.is_none()), "{asked:?}");
    // Not the client's own either, ever.
    let own = http.authorization().unwrap();
    assert!(fake.asked().iter().all(|one| one.authorization.as_deref() != Some(own)), "{:?}", fake.asked());
}

/// How many requests of the registry's protocol the server has answered, however it did.
fn asked(server: &Server) -> u64 {
    let text = String::from_utf8(server.http().get("/metrics").body).unwrap();
    let series = text.lines().filter(|line| line.starts_with("berth_http_requests_total{operation=\"oci:"));
    series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[test]
fn an_upstream_whose_certificate_nobody_vouches_for_learns_nothing() {
    let upstream = Server::builder().listen("0.0.0.0:0").start();
    push(&upstream.http(), "app", "1", "behind a certificate of its own");
    let url = format!("https://{}", upstream.authority());
    let ready = run(Command::new("curl").args(["-sk", "-w", "%{http_code}", &format!("{url}/readyz")]));
    assert!(ready.ends_with("200"), "{ready}");
    let ca = upstream.data().join("ca.pem");
    let cache = |trusted: &str| {
        let cache = Server::builder()
            .config(&format!("pull_through_private_hosts = [{:?}]", upstream.authority()))
            .env("SSL_CERT_FILE", trusted)
            .start();
        create_rule(&cache, "hub", &url).unwrap();
        log_in(&cache, &upstream);
        cache
    };
    let stranger = cache("/etc/ssl/certs/ca-certificates.crt");
    let before = asked(&upstream);
    let refused = manifest(&stranger.http(), "hub/app", "1");
    assert_eq!((refused.status, refused.oci_code().as_str()), (502, "MANIFEST_UNKNOWN"), "{refused:?}");
    assert_eq!(asked(&upstream), before, "nothing was asked");
    // The same with a CA that vouches for it.
    std::fs::write(&ca, upstream.anonymous().get("/ca.pem").body).unwrap();
    let pulled = manifest(&cache(ca.to_str().unwrap()).http(), "hub/app", "1");
    assert_eq!(pulled.status, 200, "{pulled:?}");
}
