//! Random policies and requests, decided by the engine and by the naive reference.
//!
//! The vocabulary is small on purpose: random words would never meet. Each seed is fixed, so a failure
//! comes back. `PROPTEST_CASES=20833` makes a million cases of the three seeds.

mod vocabulary;

use std::sync::Arc;

use policies::{Context, Named, Policy, PolicySet, Request, evaluate};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::reference::{self, Document};
use vocabulary::{Case, case};

fn named(document: &Document) -> Named {
    let policy = Policy::parse(&document.json.to_string(), document.kind)
        .unwrap_or_else(|findings| panic!("{} {findings:?}", document.json));
    Named::new(document.name.as_str(), Arc::new(policy))
}

fn engine_and_reference_agree(case: &Case) -> bool {
    let asked = &case.asked;
    let set = &case.set;
    let all = |documents: &Vec<Document>| documents.iter().map(named).collect::<Vec<Named>>();
    let (identity, resource) = (all(&set.identity), all(&set.resource));
    let boundary = set.boundary.as_ref().map(named);
    let session = set.session.as_ref().map(all);
    let scps: Vec<Vec<Named>> = set.scps.iter().map(all).collect();
    let rcps: Vec<Vec<Named>> = set.rcps.iter().map(all).collect();
    let context: Context = asked.context.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    let request = Request {
        action: &asked.action,
        resource: &asked.resource,
        resource_account: &asked.resource_account,
        principal: &asked.principal,
        context: &context,
    };
    let compiled = PolicySet {
        identity: &identity,
        boundary: boundary.as_ref(),
        session: session.as_deref(),
        resource: &resource,
        service_control: &scps,
        resource_control: &rcps,
    };
    let decision = evaluate(&request, &compiled);
    let place = decision.statement.map(|statement| (statement.policy.to_owned(), statement.index));
    let expected = reference::decide(asked, set);
    assert_eq!((decision.reason, place), expected, "{}", case.described());
    if decision.allowed() {
        only_narrowed_by_bounds(&request, &compiled, case);
    }
    decision.allowed()
}

/// What is allowed within bounds is allowed without them: a session policy, a boundary or a control policy
/// never widens.
fn only_narrowed_by_bounds(request: &Request<'_>, set: &PolicySet<'_>, case: &Case) {
    let without = [
        PolicySet { session: None, ..*set },
        PolicySet { boundary: None, ..*set },
        PolicySet { service_control: &[], resource_control: &[], ..*set },
    ];
    for set in &without {
        assert!(evaluate(request, set).allowed(), "{}", case.described());
    }
}

fn run(seed: u8) {
    // 256 unless the environment says otherwise.
    let mut config = Config::default();
    config.cases = config.cases.saturating_mul(16);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let (allowed, decided) = (std::cell::Cell::new(0u32), std::cell::Cell::new(0u32));
    let outcome = runner.run(&case(), |case| {
        allowed.set(allowed.get() + u32::from(engine_and_reference_agree(&case)));
        decided.set(decided.get() + 1);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    // Cases of which nearly all go one way would prove little.
    let (allowed, decided) = (allowed.get(), decided.get());
    assert!(allowed * 10 > decided && allowed * 10 < decided * 9, "{allowed} of {decided} allowed");
}

#[test]
fn engine_agrees_with_the_rules_first_seed() {
    run(1);
}

#[test]
fn engine_agrees_with_the_rules_second_seed() {
    run(2);
}

#[test]
fn engine_agrees_with_the_rules_third_seed() {
    run(3);
}
