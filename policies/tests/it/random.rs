//! Random policies and requests, decided by the engine and by the naive reference.
//!
//! `POLICIES_SEED` sets the seed and `POLICIES_CASES` the number of cases; a failure prints both, and the case as
//! small as it can be made. The long form takes its seed from the clock.

#![allow(clippy::print_stdout, reason = "the seed and the distribution of the decisions are told")]

mod generate;
mod shrink;
mod source;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use policies::{
    Context, Effect, Named, Policy, PolicyKind, PolicySet, Reason, Request, Verdict, decide_with_grounds,
    evaluate, explain,
};

use crate::reference::{self, Asked, Document, Set};
use source::Source;
use words::{TYPES, Type};

#[derive(Debug, Clone)]
struct Case {
    asked: Asked<'static>,
    set: Set,
}

/// Requests that are asked of one set of policies.
const REQUESTS: u64 = 8;

/// A set, compiled.
struct Compiled {
    identity: Vec<Named>,
    boundary: Vec<Named>,
    session: Option<Vec<Named>>,
    resource: Vec<Named>,
    scps: Vec<Vec<Named>>,
    rcps: Vec<Vec<Named>>,
}

impl Compiled {
    fn of(set: &Set) -> Compiled {
        let all = |documents: &Vec<Document>| documents.iter().map(named).collect::<Vec<Named>>();
        Compiled {
            identity: all(&set.identity),
            boundary: all(&set.boundary),
            session: set.session.as_ref().map(all),
            resource: all(&set.resource),
            scps: set.scps.iter().map(all).collect(),
            rcps: set.rcps.iter().map(all).collect(),
        }
    }

    fn set(&self) -> PolicySet<'_> {
        PolicySet {
            identity: &self.identity,
            boundary: &self.boundary,
            session: self.session.as_deref(),
            resource: &self.resource,
            service_control: &self.scps,
            resource_control: &self.rcps,
        }
    }
}

fn named(document: &Document) -> Named {
    let policy = Policy::parse(&document.json.to_string(), document.kind)
        .unwrap_or_else(|findings| panic!("{} {findings:?}", document.json));
    Named::new(document.name.as_str(), Arc::new(policy))
}

/// What was seen, to know that the cases prove something.
#[derive(Debug, Default)]
struct Seen {
    reasons: BTreeMap<String, u64>,
    /// Operators of statements that matched, and of those that failed by a condition.
    held: BTreeSet<String>,
    failed: BTreeSet<String>,
}

/// Whether engine and reference agree; with a word about where they do not.
fn compare(case: &Case, compiled: &Compiled, seen: Option<&mut Seen>) -> Result<(), String> {
    let asked = &case.asked;
    let context: Context = asked.context.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    let request = Request {
        action: &asked.action,
        resource: &asked.resource,
        resource_account: &asked.resource_account,
        principal: &asked.principal,
        context: &context,
    };
    let set = compiled.set();
    let decision = evaluate(&request, &set);
    let place = decision.statement.map(|statement| (statement.policy.to_owned(), statement.index));
    let expected = reference::decide(asked, &case.set);
    if (decision.reason, place.clone()) != expected {
        return Err(format!("the engine says {:?} {place:?}, the reference {expected:?}", decision.reason));
    }
    if decision.allowed() {
        only_narrowed_by_bounds(&request, &set)?;
    }
    let Some(seen) = seen else { return Ok(()) };
    *seen.reasons.entry(format!("{:?}", decision.reason)).or_default() += 1;
    let (again, grounds) = decide_with_grounds(&request, &set);
    let considered = explain(&request, &set);
    let effect = if decision.allowed() { Effect::Allow } else { Effect::Deny };
    for ground in &grounds {
        let found = considered.iter().find(|considered| considered.statement == *ground);
        let matches = found.is_some_and(|found| {
            found.effect == effect && matches!(found.verdict, Verdict::Matches | Verdict::MatchesAccountOnly)
        });
        if !matches {
            return Err(format!("the ground {ground:?} does not match"));
        }
    }
    let names_decider = decision.statement.is_none_or(|statement| grounds.contains(&statement));
    if again != decision || !names_decider {
        return Err(format!("the grounds {grounds:?} are not those of {decision:?}"));
    }
    for considered in &considered {
        match &considered.verdict {
            Verdict::ConditionFails { condition, .. } => {
                seen.failed.extend(condition.split(' ').next().map(str::to_owned));
            }
            Verdict::Matches => {
                let document =
                    documents(&case.set).find(|document| document.name == considered.statement.policy);
                let statement =
                    document.map(|document| &document.json["Statement"][considered.statement.index]);
                let operators = statement.and_then(|statement| statement["Condition"].as_object());
                seen.held.extend(operators.into_iter().flat_map(|operators| operators.keys().cloned()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn documents(set: &Set) -> impl Iterator<Item = &Document> {
    let bounds = set.session.iter().chain(&set.scps).chain(&set.rcps).flatten();
    set.identity.iter().chain(&set.boundary).chain(&set.resource).chain(bounds)
}

/// What is allowed within bounds is allowed without them: a session policy, a boundary or a control policy
/// never widens.
fn only_narrowed_by_bounds(request: &Request<'_>, set: &PolicySet<'_>) -> Result<(), String> {
    let without = [
        PolicySet { session: None, ..*set },
        PolicySet { boundary: &[], ..*set },
        PolicySet { service_control: &[], resource_control: &[], ..*set },
    ];
    if without.iter().all(|set| evaluate(request, set).allowed()) {
        return Ok(());
    }
    Err("taking a bound away took a right away".to_owned())
}

fn run(seed: u64, cases: u64) -> Seen {
    let mut seen = Seen::default();
    let mut source = Source::new(seed);
    for number in 0..cases.div_ceil(REQUESTS) {
        let first = generate::request(&mut source);
        let set = generate::set(&mut source, &first);
        let compiled = Compiled::of(&set);
        let mut case = Case { asked: first.clone(), set };
        for asked in 0..REQUESTS {
            if asked > 0 {
                case.asked = generate::neighbour(&mut source, &first);
            }
            case.asked.has_boundary = !case.set.boundary.is_empty();
            if let Err(difference) = compare(&case, &compiled, Some(&mut seen)) {
                let fails = |case: &Case| compare(case, &Compiled::of(&case.set), None).is_err();
                let small = if fails(&case) { shrink::shrink(&case, fails) } else { case };
                let number = number * REQUESTS + asked;
                panic!(
                    "POLICIES_SEED={seed} POLICIES_CASES={cases}, case {number}: {difference}\n{small:#?}"
                );
            }
        }
    }
    seen
}

/// Decided on all cores, each with a seed of its own.
fn run_all(seed: u64, cases: u64) {
    println!("POLICIES_SEED={seed} POLICIES_CASES={cases}");
    let workers = 2;
    let start = |worker: u64| std::thread::spawn(move || run(seed.wrapping_add(worker), cases / workers));
    let handles: Vec<_> = (0..workers).map(start).collect();
    let mut seen = Seen::default();
    for handle in handles {
        let part = handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        for (reason, count) in part.reasons {
            *seen.reasons.entry(reason).or_default() += count;
        }
        seen.held.extend(part.held);
        seen.failed.extend(part.failed);
    }
    let decided: u64 = seen.reasons.values().sum();
    for (reason, count) in &seen.reasons {
        println!("{:>6.2} %  {reason}", *count as f64 * 100.0 / decided as f64);
    }
    prove_something(&seen, decided);
}

/// Cases that nearly all go one way, or never reach a rule, would prove little.
fn prove_something(seen: &Seen, decided: u64) {
    let share = |reason: Reason| {
        seen.reasons.get(&format!("{reason:?}")).copied().unwrap_or(0) as f64 / decided as f64
    };
    let allowed = share(Reason::Allowed);
    assert!((0.2..0.8).contains(&allowed), "{allowed} are allowed");
    let kinds = [
        PolicyKind::Identity,
        PolicyKind::RepositoryPolicy,
        PolicyKind::RegistryPolicy,
        PolicyKind::ResourcePolicy,
        PolicyKind::Trust,
        PolicyKind::Session,
        PolicyKind::Boundary,
        PolicyKind::ServiceControl,
        PolicyKind::ResourceControl,
    ];
    for kind in kinds {
        for reason in [Reason::ExplicitDeny(kind), Reason::ImplicitDeny(kind)] {
            assert!(share(reason) > 0.0005, "{reason:?} decides {} of the cases", share(reason));
        }
    }
    let operators = TYPES.iter().flat_map(|kind| Type::operators(*kind));
    for operator in operators {
        for prefix in ["", "ForAllValues:", "ForAnyValue:"] {
            for suffix in ["", "IfExists"] {
                let name = format!("{prefix}{operator}{suffix}");
                assert!(seen.held.contains(&name), "{name} never held");
                assert!(seen.failed.contains(&name), "{name} never failed");
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "seed and number of cases of a test come from its environment")]
fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn engine_agrees_with_the_rules() {
    run_all(from_environment("POLICIES_SEED", 2026), from_environment("POLICIES_CASES", 100_000));
}

#[test]
#[ignore = "long: a million cases"]
fn engine_agrees_with_the_rules_a_million_times() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = from_environment("POLICIES_SEED", now.as_secs());
    run_all(seed, from_environment("POLICIES_CASES", 1_000_000));
}
