//! Nanoseconds a decision, and the time of a hostile pattern: `cargo bench -p policies`.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod fixture;

use std::hint::black_box;
use std::time::Instant;

use policies::{Context, Named, Policy, PolicyKind, PolicySet, Principal, Request, evaluate};

const ROUNDS: usize = 20_000;
/// Decisions measured together, so that reading the clock does not count.
const BATCH: usize = 20;

fn measure(name: &str, mut decide: impl FnMut()) {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..BATCH {
                decide();
            }
            start.elapsed().as_nanos() as f64 / BATCH as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let (least, middle, late) = (times[0], times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
    println!("{name:<40} least {least:>6.0} ns   p50 {middle:>6.0} ns   p99 {late:>6.0} ns");
}

fn decisions() {
    let identity = fixture::policies();
    let context = fixture::context();
    let principal = Principal::User { account: fixture::ACCOUNT, arn: fixture::USER };
    let set = PolicySet { identity: &identity, ..PolicySet::default() };
    for (name, action, resource, allowed) in [
        ("allow, 20 policies, 200 statements", "ecr:PutImage", fixture::REPOSITORY, true),
        (
            "implicit deny, same policies",
            "ecr:PutImage",
            "arn:aws:ecr:us-east-1:000000000000:repository/x",
            false,
        ),
        (
            "an action that few statements name",
            "sts:AssumeRole",
            "arn:aws:iam::000000000000:role/team-3/x",
            false,
        ),
    ] {
        let request = Request {
            action,
            resource,
            resource_account: fixture::ACCOUNT,
            principal: &principal,
            context: &context,
        };
        if action.starts_with("ecr") {
            assert_eq!(evaluate(&request, &set).allowed(), allowed, "{name}");
        }
        measure(name, || {
            black_box(evaluate(black_box(&request), black_box(&set)));
        });
    }
}

/// A pattern and a text of 10 KiB each, made to be slow.
fn hostile_patterns() {
    let text = format!("arn:aws:ecr:::{}", "a".repeat(10_240));
    let context = Context::new();
    let principal = Principal::User { account: fixture::ACCOUNT, arn: fixture::USER };
    for (name, pattern) in [
        ("stars", "*a".repeat(5_000) + "b"),
        ("one long piece", format!("*{}b*", "a".repeat(5_000))),
        ("one long piece with a question mark", format!("*{}?{}b*", "a".repeat(2_500), "a".repeat(2_500))),
    ] {
        let document = format!(
            r#"{{"Statement": {{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:ecr:::{pattern}"}}}}"#
        );
        let policy = Policy::parse(&document, PolicyKind::Identity).expect("well formed");
        let identity = [Named::new("hostile", policy)];
        let set = PolicySet { identity: &identity, ..PolicySet::default() };
        let request = Request {
            action: "ecr:PutImage",
            resource: &text,
            resource_account: fixture::ACCOUNT,
            principal: &principal,
            context: &context,
        };
        let start = Instant::now();
        let rounds = 100;
        for _ in 0..rounds {
            black_box(evaluate(black_box(&request), &set));
        }
        let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
        println!("10 KiB against 10 KiB, {name:<36} {micros:>7.0} µs");
    }
}

fn main() {
    decisions();
    hostile_patterns();
}
