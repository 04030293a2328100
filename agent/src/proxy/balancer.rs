//! Which task gets the next connection: the one with the fewest, among those that answer.
//!
//! Pure but for its counters: time is passed in. Invariant: a target's count is raised under the same lock under
//! which the set is changed, so that a connection is either counted before its target leaves the set or never led
//! to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// For how long a target that did not take a connection is passed over: doubled with every failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// One task's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) task_id: String,
    pub(super) address: SocketAddr,
}

/// A task and the connections that this agent has to it.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) task_id: String,
    open: AtomicUsize,
}

impl Load {
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct Member {
    target: Target,
    load: Arc<Load>,
    failures: u32,
    /// Passed over until then, while there are others.
    down_until: Option<Instant>,
}

/// A connection's claim on a target; the count goes down when it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) address: SocketAddr,
    pub(super) load: Arc<Load>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.load.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug, Default)]
pub(super) struct Balancer {
    members: Vec<Member>,
    /// Where the next search begins, so that targets with equally few connections take turns.
    turn: usize,
}

impl Balancer {
    /// Takes a new set. Targets that stay keep their counts. Returns the loads of those that are gone.
    pub(super) fn set(&mut self, targets: Vec<Target>) -> Vec<Arc<Load>> {
        let mut before = std::mem::take(&mut self.members);
        for target in targets {
            let known = before.iter().position(|member| member.target.task_id == target.task_id);
            let member = match known.map(|at| before.swap_remove(at)) {
                Some(member) if member.target == target => member,
                // The same task at another address: it was restarted in place.
                Some(member) => Member { target, failures: 0, down_until: None, ..member },
                None => {
                    let load = Arc::new(Load { task_id: target.task_id.clone(), open: AtomicUsize::new(0) });
                    Member { target, load, failures: 0, down_until: None }
                }
            };
            self.members.push(member);
        }
        before.into_iter().map(|member| member.load).collect()
    }

    /// Claims the target with the fewest connections, passing over those that were tried already. Targets that
    /// did not answer lately are a last resort.
    pub(super) fn claim(&mut self, tried: &[SocketAddr], now: Instant) -> Option<Claim> {
        let count = self.members.len();
        let turn = self.turn;
        let order = (0..count).map(|step| (turn + step) % count);
        let untried = order.filter(|at| !tried.contains(&self.members[*at].target.address));
        // The first of equals is taken: `min_by_key` gives the earliest.
        let chosen = untried.min_by_key(|at| {
            let member = &self.members[*at];
            let down = member.down_until.filter(|until| *until > now);
            (down.is_some(), down, member.load.open())
        })?;
        self.turn = (chosen + 1) % count;
        let member = &self.members[chosen];
        member.load.open.fetch_add(1, Ordering::SeqCst);
        Some(Claim { address: member.target.address, load: Arc::clone(&member.load) })
    }

    /// Notes how an attempt to connect went.
    pub(super) fn note(&mut self, address: SocketAddr, connected: bool, now: Instant) {
        let Some(member) = self.members.iter_mut().find(|member| member.target.address == address) else {
            return;
        };
        if connected {
            member.failures = 0;
            member.down_until = None;
            return;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << member.failures.min(10)).min(LONGEST_PAUSE);
        member.failures = member.failures.saturating_add(1);
        member.down_until = Some(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::{Balancer, Claim, Target};

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 80))
    }

    fn targets(numbers: impl IntoIterator<Item = u8>) -> Vec<Target> {
        let target = |number: u8| Target { task_id: number.to_string(), address: address(number) };
        numbers.into_iter().map(target).collect()
    }

    #[test]
    fn equals_take_turns_and_the_least_loaded_is_next() {
        let (mut balancer, now) = (Balancer::default(), Instant::now());
        balancer.set(targets(0..3));
        let first: Vec<Claim> = (0..3).filter_map(|_| balancer.claim(&[], now)).collect();
        let mut addresses: Vec<_> = first.iter().map(|claim| claim.address).collect();
        addresses.sort_unstable();
        assert_eq!(addresses, [address(0), address(1), address(2)]);
        let mut held = first;
        drop(held.remove(1));
        let freed = balancer.claim(&[], now).unwrap();
        assert_eq!(held.iter().filter(|claim| claim.address == freed.address).count(), 0);
    }

    #[test]
    fn what_fails_is_passed_over_for_a_while_and_is_still_better_than_nothing() {
        let (mut balancer, now) = (Balancer::default(), Instant::now());
        balancer.set(targets(0..2));
        balancer.note(address(0), false, now);
        for _ in 0..4 {
            assert_eq!(balancer.claim(&[], now).unwrap().address, address(1));
        }
        assert_eq!(balancer.claim(&[address(1)], now).unwrap().address, address(0));
        assert!(balancer.claim(&[address(0), address(1)], now).is_none());
        let later = now + Duration::from_secs(1);
        let seen: Vec<_> = (0..2).map(|_| balancer.claim(&[], later).unwrap().address).collect();
        assert!(seen.contains(&address(0)), "{seen:?}");
        // The second failure in a row counts for longer.
        balancer.note(address(0), false, later);
        assert_eq!(balancer.claim(&[], later + Duration::from_millis(900)).unwrap().address, address(1));
        balancer.note(address(0), true, later);
        let seen: Vec<_> = (0..2).map(|_| balancer.claim(&[], later).unwrap().address).collect();
        assert!(seen.contains(&address(0)));
    }

    #[test]
    fn a_task_that_leaves_keeps_its_count_until_its_connections_end() {
        let (mut balancer, now) = (Balancer::default(), Instant::now());
        balancer.set(targets(0..1));
        let claim = balancer.claim(&[], now).unwrap();
        let gone = balancer.set(targets(1..2));
        assert_eq!((gone.len(), gone[0].task_id.as_str(), gone[0].open()), (1, "0", 1));
        drop(claim);
        assert_eq!(gone[0].open(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(Vec<u8>),
        Claim(Vec<u8>),
        Drop(usize),
        Note(u8, bool),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let some = || proptest::collection::btree_set(0..6u8, 0..6).prop_map(|set| set.into_iter().collect());
        prop_oneof![
            some().prop_map(Step::Set),
            some().prop_map(Step::Claim),
            any::<usize>().prop_map(Step::Drop),
            (0..6u8, any::<bool>()).prop_map(|(number, up)| Step::Note(number, up)),
            (0..5000u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn counts_are_exact_and_no_better_target_is_left_out(steps in proptest::collection::vec(step(), 1..80)) {
            let mut balancer = Balancer::default();
            let mut now = Instant::now();
            let mut claims: Vec<Claim> = Vec::new();
            let mut members: Vec<u8> = Vec::new();
            // Connections to a task that left and came back are counted with its former load.
            let mut loads: BTreeMap<u8, *const super::Load> = BTreeMap::new();
            let mut down: BTreeMap<u8, Instant> = BTreeMap::new();
            let mut failures: BTreeMap<u8, u32> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Set(numbers) => {
                        let gone = balancer.set(targets(numbers.iter().copied()));
                        let left: Vec<u8> = members.iter().copied().filter(|one| !numbers.contains(one)).collect();
                        prop_assert_eq!(gone.len(), left.len());
                        for one in left {
                            loads.remove(&one);
                            down.remove(&one);
                            failures.remove(&one);
                        }
                        members = numbers;
                    }
                    Step::Claim(tried) => {
                        let tried: Vec<SocketAddr> = tried.into_iter().map(address).collect();
                        let open = |number: u8| claims.iter().filter(|claim| {
                            claim.address == address(number)
                                && loads.get(&number) == Some(&std::sync::Arc::as_ptr(&claim.load))
                        }).count();
                        let is_down = |number: u8| down.get(&number).is_some_and(|until| *until > now);
                        let candidates: Vec<u8> =
                            members.iter().copied().filter(|one| !tried.contains(&address(*one))).collect();
                        match balancer.claim(&tried, now) {
                            None => prop_assert!(candidates.is_empty()),
                            Some(claim) => {
                                let chosen = candidates.iter().copied().find(|one| address(*one) == claim.address);
                                prop_assert!(chosen.is_some());
                                let chosen = chosen.unwrap();
                                prop_assert_eq!(claim.load.open(), open(chosen) + 1);
                                for other in candidates {
                                    if is_down(chosen) {
                                        prop_assert!(is_down(other));
                                    } else if !is_down(other) {
                                        prop_assert!(open(chosen) <= open(other));
                                    }
                                }
                                loads.insert(chosen, std::sync::Arc::as_ptr(&claim.load));
                                claims.push(claim);
                            }
                        }
                    }
                    Step::Drop(at) => {
                        if !claims.is_empty() {
                            drop(claims.remove(at % claims.len()));
                        }
                    }
                    Step::Note(number, up) => {
                        balancer.note(address(number), up, now);
                        if members.contains(&number) {
                            if up {
                                down.remove(&number);
                                failures.remove(&number);
                            } else {
                                let count = failures.entry(number).or_default();
                                down.insert(number, now + super::FIRST_PAUSE.saturating_mul(1 << (*count).min(10)).min(super::LONGEST_PAUSE));
                                *count += 1;
                            }
                        }
                    }
                    Step::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
                }
            }
        }
    }
}
