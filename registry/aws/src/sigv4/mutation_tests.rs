//! Signed requests with one random change each, told apart by a canonical form of the tests' own.
//!
//! A change of the canonical request, the credential scope or the signature must be refused, and so must what only
//! adds something that should have been signed; every other spelling of the same request must be accepted.
//! `SIGV4_SEED` and `SIGV4_CASES` set the seed and the number of changes; the long form takes its seed from the clock.

#![allow(clippy::print_stdout, reason = "the seed and the distribution of the changes are told")]

mod change;
mod naive;
mod source;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use http::Request;
use http::request::Parts;
use percent_encoding::percent_encode;
use sha2::{Digest, Sha256};

use self::naive::{ENCODED, Judgement, Meaning};
use self::source::Source;
use super::parse::Scope;
use super::verify::signature;
use super::{ALGORITHM, Expected, SigV4Error, parse};
use crate::timestamp::amz_date;

const NOW_MS: i64 = 1_793_534_400_000;
/// Seven days: what time would refuse must be refused by the signature.
const SKEW_MS: i64 = 604_800_000;
const KEY: &str = "BRTHEXAMPLEEXAMPLE00";
const SECRET: &[u8] = b"a secret of thirty-two characters";
const BASES: usize = 128;
const CHANGES: u64 = 100_000;

/// A request as a server reads it.
#[derive(Clone, Debug)]
struct Asked {
    parts: Parts,
    body: Vec<u8>,
}

/// Every service and region that the changes name are served, so that the signature alone refuses them.
fn expected() -> Expected<'static> {
    Expected {
        services: &["ecs", "ecr", "sts"],
        regions: &[],
        now_ms: NOW_MS,
        skew_ms: SKEW_MS,
        unsigned_payload: true,
    }
}

fn verify(asked: &Asked) -> Result<(), SigV4Error> {
    let signed = parse(&asked.parts)?.ok_or(SigV4Error::Malformed("unsigned"))?;
    let secret = if signed.access_key_id == KEY { SECRET } else { b"the secret of another key" };
    signed.verify(&asked.parts, secret, &Sha256::digest(&asked.body).into(), &expected())
}

const PIECES: &[&str] = &[
    "a", "Z", "0", "-", "_", ".", "~", "+", "*", "%20", "%2F", "%2f", "%25", "%41", "%C3%A9", "!", "'", "(",
    "@", ":", ",", ";", "$", "team", "app",
];

fn text(source: &mut Source, most: usize) -> String {
    (0..source.count(most)).map(|_| *source.pick(PIECES)).collect()
}

fn query(source: &mut Source) -> Vec<String> {
    let pairs = source.below(4);
    (0..pairs)
        .map(|_| match source.below(5) {
            0 => text(source, 3),
            _ => format!("{}={}", text(source, 3), text(source, 6)),
        })
        .collect()
}

/// A request with a signature that holds.
fn base(source: &mut Source) -> Asked {
    let presigned = source.percent(50);
    let date = amz_date(NOW_MS - source.below(100_000) as i64 * 1000);
    let scope = Scope {
        date: date[..8].to_owned(),
        region: (*source.pick(&["us-east-1", "eu-west-1"])).to_owned(),
        service: (*source.pick(&["ecs", "ecr"])).to_owned(),
    };
    let path: String = (0..source.below(4)).map(|_| format!("/{}", text(source, 4))).collect();
    let path = if path.is_empty() { "/".to_owned() } else { path };
    let mut request = Request::builder()
        .method(*source.pick(&["GET", "POST", "PUT", "DELETE"]))
        .header("host", *source.pick(&["berth.example:5000", "127.0.0.1", "registry.example"]))
        .header("user-agent", "aws-cli/1.2 md/x  y");
    let mut names = vec!["host"];
    if source.percent(60) {
        request = request.header("content-type", "application/x-amz-json-1.1");
        names.push("content-type");
    }
    if source.percent(60) {
        request = request.header("x-amz-target", "AmazonEC2ContainerServiceV20141113.RunTask");
        names.push("x-amz-target");
    }
    if source.percent(40) {
        request = request.header("my-header", "one  two").header("my-header", "three");
        names.push("my-header");
    }
    let token = source.percent(40).then_some("token/of+session==");
    let body = match source.below(3) {
        0 => Vec::new(),
        _ => format!("{{\"cluster\":\"{}\"}}", text(source, 9)).into_bytes(),
    };
    let mut pairs = query(source);
    if presigned {
        names.sort_unstable();
        let encoded = |text: &str| percent_encode(text.as_bytes(), ENCODED).to_string();
        pairs.push(format!("X-Amz-Algorithm={ALGORITHM}"));
        pairs.push(format!("X-Amz-Credential={}", encoded(&format!("{KEY}/{scope}"))));
        pairs.push(format!("X-Amz-Date={date}"));
        pairs.push("X-Amz-Expires=604800".to_owned());
        pairs.push(format!("X-Amz-SignedHeaders={}", encoded(&names.join(";"))));
        if let Some(token) = token {
            pairs.push(format!("X-Amz-Security-Token={}", encoded(token)));
        }
        source.shuffle(&mut pairs);
    } else {
        request = request.header("x-amz-date", &date);
        names.push("x-amz-date");
        if source.percent(40) {
            request = request.header("x-amz-content-sha256", hex::encode(Sha256::digest(&body)));
            names.push("x-amz-content-sha256");
        }
        if let Some(token) = token {
            request = request.header("x-amz-security-token", token);
            names.push("x-amz-security-token");
        }
        names.sort_unstable();
    }
    let target = |pairs: &[String]| match pairs {
        [] => path.clone(),
        _ => format!("{path}?{}", pairs.join("&")),
    };
    let mut asked = Asked { parts: request.uri(target(&pairs)).body(()).unwrap().into_parts().0, body };
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let canonical = naive::canonical(&asked, &names).unwrap();
    let signature = hex::encode(signature(SECRET, &scope, &date, canonical.as_bytes()));
    if presigned {
        pairs.push(format!("X-Amz-Signature={signature}"));
        asked.parts.uri = target(&pairs).parse().unwrap();
    } else {
        let names = names.join(";");
        let authorization =
            format!("{ALGORITHM} Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}");
        asked.parts.headers.insert("authorization", authorization.parse().unwrap());
    }
    asked
}

type Seen = BTreeMap<(&'static str, Judgement), u64>;

/// Changes requests until `changes` of them had another meaning.
fn mutate(seed: u64, changes: u64) -> Seen {
    let mut source = Source::new(seed);
    let bases: Vec<Asked> = (0..BASES).map(|_| base(&mut source)).collect();
    for base in &bases {
        assert_eq!(verify(base), Ok(()), "seed {seed}: {base:?}");
    }
    let meanings: Vec<Meaning> = bases.iter().map(|base| naive::meaning(base).unwrap()).collect();
    let mut seen = Seen::new();
    let mut refused = 0;
    while refused < changes {
        let at = source.below(BASES);
        let mut asked = bases[at].clone();
        let other = source.below(BASES);
        let Some(kind) = change::change(&mut source, &mut asked, &bases[other]) else { continue };
        let judgement = naive::judge(&meanings[at], &asked);
        // The whole target of a presigned request brings its signature along: that is the other request, and signed.
        if judgement == Judgement::Another && naive::judge(&meanings[other], &asked) == Judgement::Same {
            continue;
        }
        let verified = verify(&asked);
        let right = verified.is_ok() == (judgement == Judgement::Same);
        assert!(
            right,
            "seed {seed}: {kind} is {judgement:?}, and {verified:?}\n{asked:?}\nof {:?}",
            bases[at]
        );
        *seen.entry((kind, judgement)).or_default() += 1;
        refused += u64::from(judgement == Judgement::Another);
    }
    seen
}

/// Half of the changes in each of two threads.
fn mutate_all(seed: u64, changes: u64) {
    println!("SIGV4_SEED={seed} SIGV4_CASES={changes}");
    let mut seen = std::thread::scope(|scope| {
        let other = scope.spawn(move || mutate(!seed, changes / 2));
        let seen = mutate(seed, changes - changes / 2);
        (seen, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    for (kind, count) in seen.1 {
        *seen.0.entry(kind).or_default() += count;
    }
    for ((kind, judgement), count) in &seen.0 {
        println!("{count:8} {kind}: {judgement:?}");
    }
    let kinds = |wanted| seen.0.keys().filter(|(_, judgement)| *judgement == wanted).count();
    assert!(kinds(Judgement::Another) >= 15, "too few kinds of changes");
    assert!(kinds(Judgement::Same) >= 15, "too few kinds of other spellings");
    assert!(kinds(Judgement::Forbidden) >= 4, "too few kinds of what must be signed");
}

#[allow(
    clippy::disallowed_methods,
    reason = "seed and number of changes of a test come from its environment"
)]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn changed_requests_are_refused_and_other_spellings_accepted() {
    mutate_all(setting("SIGV4_SEED").unwrap_or(20_261_101), setting("SIGV4_CASES").unwrap_or(CHANGES));
}

#[test]
#[ignore = "long: three million changes"]
fn millions_of_changed_requests_are_refused() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    mutate_all(setting("SIGV4_SEED").unwrap_or(clock), setting("SIGV4_CASES").unwrap_or(30 * CHANGES));
}
