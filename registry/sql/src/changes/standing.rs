//! How every replica stands, shared by the writer, the replicas' threads and their keepers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::record::Preface;
use super::{ChangeLogConfig, ChangeLogStatus, Lag, LogReplica, ReplicaLogStatus};
use crate::Error;

/// How long a group waits for its quorum, and how long a replica may hang before it is left out.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How exactly it is known when groups were committed, and how many such moments are kept.
const MOMENT: Duration = Duration::from_millis(100);
const MOMENTS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Gets nothing until its keeper has brought it up to date.
    Out,
    /// Gets every group, and does not hold what was before.
    Joining,
    InSync,
}

pub(super) struct Replica {
    pub(super) name: String,
    /// Whether groups wait for it: it is a folder of this machine.
    counts: bool,
    pub(super) standing: Standing,
    /// The last group that it confirmed.
    pub(super) confirmed: u64,
    /// Of a remote one: the last group that is on its way there.
    pub(super) staged: u64,
    /// The last wish for a new copy of the database that was fulfilled here.
    renewed: u64,
    /// Bytes of the log that it is on.
    pub(super) log_bytes: u64,
    pub(super) problem: Option<String>,
}

/// The numbers of groups. Held from the moment a frame is sent until SQLite has committed it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    pub(super) term: u64,
    /// The last group that SQLite committed.
    pub(super) committed: u64,
    /// The last that was sent; later than `committed` when SQLite gave it up.
    pub(super) sent: u64,
}

pub(super) struct Shared {
    pub(super) config: ChangeLogConfig,
    preface: Preface,
    pub(super) numbers: Mutex<Numbers>,
    /// When groups were committed, oldest first, but for those that every replica holds.
    committed_at: Mutex<VecDeque<(u64, Instant)>>,
    /// Wishes for a new copy of the database on every replica.
    wishes: std::sync::atomic::AtomicU64,
    /// Threads that carry groups elsewhere and have not ended.
    shippers: Mutex<usize>,
    replicas: Mutex<Vec<Replica>>,
    changed: Condvar,
    /// Since when fewer than the quorum have been in sync.
    short_since: Mutex<Option<Instant>>,
    closing: std::sync::atomic::AtomicBool,
}

impl Shared {
    pub(super) fn new(config: ChangeLogConfig, numbers: Numbers) -> Shared {
        let replicas = config.replicas.iter().map(|replica| Replica {
            name: replica.name.clone(),
            counts: replica.remote.is_none(),
            standing: Standing::Out,
            confirmed: 0,
            staged: 0,
            renewed: 0,
            log_bytes: 0,
            problem: None,
        });
        let replicas = Mutex::new(replicas.collect());
        // Where groups wait for those here alone, these hold everything that was acknowledged.
        let roots = config.replicas.iter().filter(|one| config.quorum == 0 || one.remote.is_none());
        let roots = roots.map(|replica| (replica.name.clone(), replica.place()));
        let preface = Preface { at: (0, 0), quorum: config.quorum as u32, replicas: roots.collect() };
        Shared {
            config,
            preface,
            numbers: Mutex::new(numbers),
            committed_at: Mutex::default(),
            wishes: 0.into(),
            shippers: Mutex::new(0),
            replicas,
            changed: Condvar::new(),
            short_since: Mutex::new(None),
            closing: false.into(),
        }
    }

    /// What stands at the front of a replica's files. No group waits for a remote one: it vouches for nothing.
    pub(super) fn preface(&self, index: usize) -> Preface {
        let vouches = self.config.replicas[index].remote.is_none();
        Preface { quorum: if vouches { self.preface.quorum } else { 0 }, ..self.preface.clone() }
    }

    /// Changes how a replica stands, and wakes whoever waits for that.
    pub(super) fn update(&self, index: usize, change: impl FnOnce(&mut Replica)) {
        let mut replicas = self.replicas.lock();
        let replica = &mut replicas[index];
        let before = replica.standing;
        change(replica);
        let after = replica.standing;
        if before == Standing::InSync && after != before {
            let reason = replica.problem.as_deref().unwrap_or_default();
            tracing::warn!(
                replica.id = replica.name,
                reason,
                "a replica does not keep up with the database's changes"
            );
        } else if after == Standing::InSync && after != before {
            tracing::info!(replica.id = replica.name, "a replica holds every change of the database");
        }
        drop(replicas);
        self.changed.notify_all();
    }

    pub(super) fn leave_out(&self, index: usize, problem: String) {
        self.update(index, |replica| {
            replica.standing = Standing::Out;
            replica.problem = Some(problem);
        });
    }

    pub(super) fn standing(&self, index: usize) -> (Standing, u64) {
        let replicas = self.replicas.lock();
        (replicas[index].standing, replicas[index].log_bytes)
    }

    /// Of a remote replica: the last group that is on its way, and the last that it holds.
    pub(super) fn on_its_way(&self, index: usize) -> (u64, u64) {
        let replicas = self.replicas.lock();
        (replicas[index].staged, replicas[index].confirmed)
    }

    /// Notes that SQLite committed a group just now.
    pub(super) fn note_committed(&self, sequence: u64) {
        let now = Instant::now();
        let mut committed_at = self.committed_at.lock();
        let is_known = committed_at.back().is_some_and(|(_, at)| now.duration_since(*at) < MOMENT);
        if !is_known && committed_at.len() < MOMENTS {
            committed_at.push_back((sequence, now));
        }
    }

    /// The wish that a replica has not fulfilled yet.
    pub(super) fn wish(&self, index: usize) -> Option<u64> {
        let wish = self.wishes.load(std::sync::atomic::Ordering::Acquire);
        (self.replicas.lock()[index].renewed < wish).then_some(wish)
    }

    /// Notes that a replica has a copy of the database that was begun after a wish.
    pub(super) fn fulfilled(&self, index: usize, wish: Option<u64>) {
        if let Some(wish) = wish {
            self.update(index, |replica| replica.renewed = wish);
        }
    }

    /// Has every replica take a new copy of the database, and waits until they have. Gives those that have not.
    pub(super) fn renew(&self, patience: Duration) -> Vec<String> {
        let wish = self.wishes.fetch_add(1, std::sync::atomic::Ordering::AcqRel) + 1;
        self.changed.notify_all();
        let deadline = Instant::now() + patience;
        let mut replicas = self.replicas.lock();
        loop {
            let left = replicas.iter().filter(|replica| replica.renewed < wish);
            let left: Vec<String> = left.map(|replica| replica.name.clone()).collect();
            if left.is_empty()
                || self.is_closing()
                || self.changed.wait_until(&mut replicas, deadline).timed_out()
            {
                return left;
            }
        }
    }

    /// Counts a thread that carries groups elsewhere.
    pub(super) fn shipper_began(&self) {
        *self.shippers.lock() += 1;
    }

    pub(super) fn shipper_ended(&self) {
        *self.shippers.lock() -= 1;
        self.changed.notify_all();
    }

    /// Waits for a while until what is on its way has come to where it goes.
    pub(super) fn wait_for_shippers(&self) {
        let deadline = Instant::now() + PATIENCE;
        while *self.shippers.lock() > 0 && Instant::now() < deadline {
            self.wait(Duration::from_millis(50));
        }
    }

    /// The term that everything is written under.
    pub(super) fn term(&self) -> u64 {
        self.numbers.lock().term
    }

    pub(super) fn close(&self) {
        self.closing.store(true, std::sync::atomic::Ordering::Release);
        self.changed.notify_all();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Waits until something changes, for a while at most.
    pub(super) fn wait(&self, at_most: Duration) {
        let mut replicas = self.replicas.lock();
        self.changed.wait_for(&mut replicas, at_most);
    }

    /// Waits until enough replicas are in sync to take a group; `patience` from when they last were.
    pub(super) fn wait_for_quorum(&self, patience: Duration) -> Result<(), Error> {
        let mut replicas = self.replicas.lock();
        while in_sync(&replicas) < self.config.quorum {
            let since = *self.short_since.lock().get_or_insert_with(Instant::now);
            if since.elapsed() >= patience || self.is_closing() {
                return Err(Error::NotReplicated);
            }
            self.changed.wait_for(&mut replicas, patience.saturating_sub(since.elapsed()));
        }
        *self.short_since.lock() = None;
        Ok(())
    }

    /// Waits until the quorum holds a group. Whoever has not answered by then is left out.
    pub(super) fn wait_until_held(&self, sequence: u64) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut replicas = self.replicas.lock();
        loop {
            let holds = |one: &&Replica| one.is_in_sync() && one.confirmed >= sequence;
            if replicas.iter().filter(holds).count() >= self.config.quorum {
                return Ok(());
            }
            if in_sync(&replicas) < self.config.quorum {
                return Err(Error::NotReplicated);
            }
            if self.changed.wait_until(&mut replicas, deadline).timed_out() {
                self.leave_out_late(&mut replicas, sequence);
                return Err(Error::NotReplicated);
            }
        }
    }

    fn leave_out_late(&self, replicas: &mut MutexGuard<'_, Vec<Replica>>, sequence: u64) {
        for replica in replicas.iter_mut().filter(|one| one.counts && one.confirmed < sequence) {
            if replica.standing == Standing::InSync {
                tracing::warn!(replica.id = replica.name, "a replica did not answer in time");
            }
            replica.standing = Standing::Out;
            replica.problem = Some("it did not answer in time".to_owned());
        }
    }

    pub(super) fn status(&self) -> ChangeLogStatus {
        let numbers = *self.numbers.lock();
        let replicas = self.replicas.lock();
        let mut committed_at = self.committed_at.lock();
        let held_by_all = replicas.iter().map(|replica| replica.confirmed).min().unwrap_or_default();
        while committed_at.front().is_some_and(|(sequence, _)| *sequence <= held_by_all) {
            committed_at.pop_front();
        }
        let lag = |confirmed: u64| match numbers.committed.saturating_sub(confirmed) {
            0 => Lag::default(),
            changes => {
                // The moment before the first that is missing: rather too long than too short.
                let missing = committed_at.partition_point(|(sequence, _)| *sequence <= confirmed);
                let first = committed_at.get(missing.saturating_sub(1));
                Lag { changes, age: first.map_or(Duration::ZERO, |(_, at)| at.elapsed()) }
            }
        };
        let one = |replica: &Replica| ReplicaLogStatus {
            name: replica.name.clone(),
            in_sync: replica.standing == Standing::InSync,
            lag: lag(replica.confirmed),
            problem: replica.problem.clone().filter(|_| replica.standing != Standing::InSync),
        };
        let counted = |one: &&Replica| self.config.quorum == 0 || one.counts;
        let mut held: Vec<u64> = replicas.iter().filter(counted).map(|one| one.confirmed).collect();
        held.sort_unstable_by(|one, other| other.cmp(one));
        let on_quorum = held.get(self.config.quorum.max(1) - 1).copied().unwrap_or_default();
        ChangeLogStatus {
            sequence: numbers.committed,
            quorum: self.config.quorum,
            lag: lag(on_quorum),
            replicas: replicas.iter().map(one).collect(),
        }
    }
}

impl Replica {
    /// Whether it is here and holds every group that it was sent.
    fn is_in_sync(&self) -> bool {
        self.counts && self.standing == Standing::InSync
    }
}

impl LogReplica {
    /// Where the log lies in the end, as an operator writes it.
    fn place(&self) -> String {
        match &self.remote {
            Some(remote) => remote.location(),
            None => self.root.to_string_lossy().into_owned(),
        }
    }
}

fn in_sync(replicas: &[Replica]) -> usize {
    replicas.iter().filter(|one| one.is_in_sync()).count()
}
