//! Fetches that are cut off: by a kill of the server, by the client, by a bound, by an upstream that has enough.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

use parking_lot::Mutex;
use serde_json::Value;
use test_support::{eventually, run, sha256};

use super::hostile::Image;
use super::upstream::{Answer, Fake};
use super::{blobs, cache_of, manifest};

/// Holds back the second half of answers.
#[derive(Default)]
struct Brake {
    released: AtomicBool,
    /// Dropped to let go of the answer that is held back.
    held: Mutex<Option<Sender<()>>>,
}

impl Brake {
    fn holds(&self) -> Option<()> {
        self.held.lock().is_some().then_some(())
    }

    fn let_go(&self) {
        *self.held.lock() = None;
    }
}

/// An upstream of one image that holds back what `part` names.
fn holding(image: &Arc<Image>, part: &'static str) -> (Fake, Arc<Brake>) {
    let brake = Arc::<Brake>::default();
    let (image, pulled) = (Arc::clone(image), Arc::clone(&brake));
    let fake = Fake::start(move |asked| {
        let mut answer = image.answer(asked);
        if asked.path.contains(part) && !pulled.released.load(Ordering::SeqCst) {
            let (sender, receiver) = channel();
            *pulled.held.lock() = Some(sender);
            answer.hold = Some(Arc::new(Mutex::new(receiver)));
        }
        answer
    });
    (fake, brake)
}

#[test]
fn a_kill_in_the_midst_of_a_fetch_leaves_nothing_half() {
    let image = Arc::new(Image::new(&"of some length ".repeat(100_000)));
    for part in ["/manifests/", "/blobs/"] {
        let (fake, brake) = holding(&image, part);
        let mut cache = cache_of(&fake.url(), "");
        let layer = format!("/v2/hub/app{}", image.layer_path());
        for round in 0..2 {
            std::thread::scope(|scope| {
                let (http, layer) = (cache.http(), &layer);
                let reading = scope.spawn(move || {
                    http.try_get("/v2/hub/app/manifests/1");
                    http.try_get(layer);
                });
                eventually("half of it was sent", || brake.holds());
                cache.process().kill();
                brake.let_go();
                reading.join().unwrap();
            });
            cache.start_again();
            // Of what was cut off nothing shows.
            let mut status = cache.berth(["status", "--output", "json"]);
            let status: Value = serde_json::from_str(&run(&mut status)).unwrap();
            let images = u64::from(part == "/blobs/");
            assert_eq!(status["images"], images, "{part} {round}: {status}");
        }
        brake.released.store(true, Ordering::SeqCst);
        let http = cache.http();
        let pulled = manifest(&http, "hub/app", "1");
        assert_eq!(pulled.body, image.manifest, "{part}");
        for blob in blobs(&pulled) {
            let answer = http.get(&format!("/v2/hub/app/blobs/{blob}"));
            assert_eq!((answer.status, format!("sha256:{}", sha256(&answer.body))), (200, blob), "{part}");
        }
        let scrub = run(cache.berth(["store", "scrub", "--wait"]).args(["--output", "json"]));
        let scrub: Value = serde_json::from_str(&scrub).unwrap();
        for finding in ["damaged", "missing", "unknown"] {
            assert_eq!(scrub["scrub"][finding], 0, "{part}: {scrub}");
        }
    }
}

#[test]
fn a_client_that_leaves_takes_nothing_from_those_who_wait() {
    let image = Arc::new(Image::new(&"of some length ".repeat(100_000)));
    let (fake, brake) = holding(&image, "/blobs/");
    let cache = cache_of(&fake.url(), "");
    let http = cache.http();
    assert_eq!(manifest(&http, "hub/app", "1").status, 200);
    let path = format!("/v2/hub/app{}", image.layer_path());
    let mut leaving = TcpStream::connect(cache.authority()).unwrap();
    let authorization = http.authorization().unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: {authorization}\r\n\r\n",
        cache.authority()
    );
    leaving.write_all(request.as_bytes()).unwrap();
    eventually("half of it was sent", || brake.holds());
    drop(leaving);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| cache.http().get(&path));
        brake.let_go();
        let answer = waiting.join().unwrap();
        assert_eq!((answer.status, answer.body.len() > 1_000_000), (200, true));
    });
    let fetches = fake.asked().iter().filter(|asked| asked.path.contains("/blobs/")).count();
    assert_eq!(fetches, 1, "{:?}", fake.asked());
}

#[test]
fn what_a_quota_has_no_room_for_is_not_kept() {
    let image = Arc::new(Image::new(&"of some length ".repeat(10_000)));
    let served = Arc::clone(&image);
    let fake = Fake::start(move |asked| served.answer(asked));
    let cache = cache_of(&fake.url(), "");
    let http = cache.http();
    let bound = |bytes: &str| run(&mut cache.berth(["quota", "set", "hub", "--bytes", bytes]));
    bound("10KiB");
    assert_eq!(manifest(&http, "hub/app", "1").status, 200);
    let path = format!("/v2/hub/app{}", image.layer_path());
    let refused = http.get(&path);
    assert_eq!((refused.status, refused.oci_code().as_str()), (403, "DENIED"), "{refused:?}");
    assert!(
        String::from_utf8_lossy(&refused.body).contains("the quota of the repositories of hub"),
        "{refused:?}"
    );
    bound("1MiB");
    assert_eq!(http.get(&path).status, 200);
}

#[test]
fn numbers_tell_what_came_and_what_did_not() {
    let image = Arc::new(Image::new("counted"));
    let served = Arc::clone(&image);
    let fake = Fake::start(move |asked| served.answer(asked));
    let cache = cache_of(&fake.url(), "");
    let http = cache.http();
    assert_eq!(manifest(&http, "hub/app", "1").status, 200);
    assert_eq!(manifest(&http, "hub/app", "1").status, 200);
    assert_eq!(http.get("/v2/hub/app/manifests/sha256:").status, 400);
    let wrong = format!("sha256:{}", sha256(b"something else"));
    assert_eq!(manifest(&http, "hub/app", &wrong).status, 502);
    let text = String::from_utf8(http.get("/metrics").body).unwrap();
    for series in [
        "berth_pull_through_fetches_total{result=\"fetched\"} 1\n",
        "berth_pull_through_fetches_total{result=\"failed\"} 1\n",
    ] {
        assert!(text.contains(series), "{series} is not in {text}");
    }
}

#[test]
fn an_upstream_that_has_enough_of_it_is_spared_and_what_is_here_served() {
    let image = Arc::new(Image::new("asked for by its head"));
    let had_enough = Arc::new(AtomicBool::new(false));
    let (served, refusing) = (Arc::clone(&image), Arc::clone(&had_enough));
    let fake = Fake::start(move |asked| match refusing.load(Ordering::SeqCst) {
        true => Answer::new(429, &[("retry-after", "30")], b"{}"),
        false => served.answer(asked),
    });
    let cache = cache_of(&fake.url(), "pull_through_revalidate = 0");
    let http = cache.http();
    let asked = |method: &str| {
        let all = fake.asked();
        all.iter().filter(|one| one.method == method && one.path.contains("/manifests/")).count()
    };
    assert_eq!(manifest(&http, "hub/app", "1").body, image.manifest);
    assert_eq!((asked("GET"), asked("HEAD")), (1, 0));
    // A tag that did not move costs a HEAD, which upstreams do not count.
    for heads in [1, 2] {
        assert_eq!(manifest(&http, "hub/app", "1").header("warning"), None);
        assert_eq!((asked("GET"), asked("HEAD")), (1, heads));
    }
    // A part of what is not here yet is fetched whole, and the part is served.
    let layer = format!("/v2/hub/app{}", image.layer_path());
    let part = http.send("GET", &layer, &[("range", "bytes=2-5")], b"");
    assert_eq!(part.status, 206, "{part:?}");
    assert_eq!(part.body, http.get(&layer).body[2..6]);
    had_enough.store(true, Ordering::SeqCst);
    let stale = manifest(&http, "hub/app", "1");
    assert_eq!((stale.status, stale.body.as_slice()), (200, image.manifest.as_slice()));
    let warning = stale.header("warning").unwrap();
    assert!(warning.starts_with("299 - \"") && warning.len() <= 4096, "{warning}");
    let absent = manifest(&http, "hub/app", "2");
    assert_eq!((absent.status, absent.oci_code().as_str()), (429, "TOOMANYREQUESTS"), "{absent:?}");
    let wait: u64 = absent.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=31).contains(&wait), "{wait}");
}
