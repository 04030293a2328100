//! Choosing the instance for one task: the strategies, each narrowing what the ones before it left.
//!
//! The usual ones (random, binpack, spread over instances, spread over zones) go through indexes and look at a
//! few instances; other combinations look at all. Invariant: what is chosen passes the one check.

use super::refusal::check;
use super::{PackedResource, PlacementRequest, SpreadField, Strategy, ZONE_ATTRIBUTE};
use crate::cluster::{Cluster, Slot, Spread};
use crate::pool::{Pool, Room};

/// Numbers from a seed (splitmix64): equal seeds, equal choices.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ (z >> 31);
        // The remainder's bias is far below anything a placement could notice.
        usize::try_from(z % (bound.max(1) as u64)).unwrap_or(0)
    }
}

/// The instances a search runs over: all, or those of one zone.
struct Scope<'a> {
    pool: &'a Pool,
    /// Tasks of the group there.
    group: Option<&'a Spread>,
    whole: bool,
}

pub(super) fn choose(cluster: &Cluster, request: &PlacementRequest, random: &mut Random) -> Option<Slot> {
    let group = cluster.group(&request.group).map(|tasks| &tasks.all);
    let scope = Scope { pool: &cluster.all, group, whole: true };
    choose_in(cluster, &scope, request, &request.strategies, random)
}

fn choose_in(
    cluster: &Cluster,
    scope: &Scope<'_>,
    request: &PlacementRequest,
    strategies: &[Strategy],
    random: &mut Random,
) -> Option<Slot> {
    let fits = |slot: Slot| check(cluster, request, slot).is_ok();
    let pool = scope.pool;
    match strategies {
        [] | [Strategy::Random, ..] => {
            pool.find(random.below(pool.len()), need(request), &mut |slot| fits(slot))
        }
        [Strategy::Spread(SpreadField::Instance)] => emptiest(cluster, scope, request, random),
        [Strategy::Spread(SpreadField::Attribute(name)), rest @ ..]
            if scope.whole && name == ZONE_ATTRIBUTE =>
        {
            by_zone(cluster, request, rest, random)
        }
        [Strategy::Binpack(resource), rest @ ..] => {
            let mut tightest = pool.tightest(*resource, need(request)).filter(|&(_, slot)| fits(slot));
            let (least, first) = tightest.next()?;
            if rest.is_empty() {
                return Some(first);
            }
            let equal = tightest.take_while(|&(left, _)| left == least).map(|(_, slot)| slot);
            let candidates = std::iter::once(first).chain(equal).collect();
            narrow(cluster, request, candidates, rest, random)
        }
        _ => {
            let candidates = pool.slots().iter().copied().filter(|&slot| fits(slot)).collect();
            narrow(cluster, request, candidates, strategies, random)
        }
    }
}

/// The instance with the fewest tasks of the group.
fn emptiest(
    cluster: &Cluster,
    scope: &Scope<'_>,
    request: &PlacementRequest,
    random: &mut Random,
) -> Option<Slot> {
    let fits = |slot: Slot| check(cluster, request, slot).is_ok();
    if scope.group.is_none_or(|group| group.slots < scope.pool.len()) {
        let mut accept = |slot: Slot| cluster.member(slot).tasks_of(&request.group) == 0 && fits(slot);
        let start = random.below(scope.pool.len());
        if let Some(slot) = scope.pool.find(start, need(request), &mut accept) {
            return Some(slot);
        }
    }
    let by_count = &scope.group?.by_count;
    by_count.values().flatten().copied().find(|&slot| fits(slot))
}

/// The zone with the fewest tasks of the group in which a place is left, and there by the other strategies.
fn by_zone(
    cluster: &Cluster,
    request: &PlacementRequest,
    rest: &[Strategy],
    random: &mut Random,
) -> Option<Slot> {
    let tasks = cluster.group(&request.group);
    let first = random.below(cluster.zones.len());
    let mut zones: Vec<_> = cluster.zones.iter().collect();
    // Equal zones take turns.
    zones.rotate_left(first);
    let spread = |zone| tasks.and_then(|tasks| tasks.zones.get(zone));
    zones.sort_by_key(|(zone, _)| spread(zone).map_or(0, |spread| spread.tasks));
    zones.into_iter().find_map(|(zone, pool)| {
        let scope = Scope { pool, group: spread(zone), whole: false };
        choose_in(cluster, &scope, request, rest, random)
    })
}

/// The plain form of every strategy: keep the best of the candidates, one strategy after the other.
fn narrow(
    cluster: &Cluster,
    request: &PlacementRequest,
    mut candidates: Vec<Slot>,
    strategies: &[Strategy],
    random: &mut Random,
) -> Option<Slot> {
    for strategy in strategies {
        match strategy {
            Strategy::Random => break,
            Strategy::Binpack(resource) => keep_least(&mut candidates, |slot| {
                let remaining = cluster.member(slot).remaining();
                match resource {
                    PackedResource::Cpu => remaining.cpu,
                    PackedResource::Memory => remaining.memory,
                }
            }),
            Strategy::Spread(SpreadField::Instance) => {
                keep_least(&mut candidates, |slot| cluster.member(slot).tasks_of(&request.group).into());
            }
            Strategy::Spread(SpreadField::Attribute(name)) => {
                let value = |slot: Slot| cluster.member(slot).instance.attributes.get(name);
                let mut tasks = std::collections::HashMap::new();
                for slot in cluster.slots() {
                    *tasks.entry(value(slot)).or_insert(0_i64) +=
                        i64::from(cluster.member(slot).tasks_of(&request.group));
                }
                keep_least(&mut candidates, |slot| tasks.get(&value(slot)).copied().unwrap_or(0));
            }
        }
    }
    if candidates.is_empty() { None } else { Some(candidates[random.below(candidates.len())]) }
}

fn keep_least(candidates: &mut Vec<Slot>, measure: impl Fn(Slot) -> i64) {
    let Some(least) = candidates.iter().map(|&slot| measure(slot)).min() else { return };
    candidates.retain(|&slot| measure(slot) == least);
}

fn need(request: &PlacementRequest) -> Room {
    Room { cpu: request.demand.cpu.into(), memory: request.demand.memory.into() }
}
