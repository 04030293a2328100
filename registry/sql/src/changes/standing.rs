//! How every replica stands, shared by the writer, the replicas' threads and their keepers.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::record::Preface;
use super::{ChangeLogConfig, ChangeLogStatus, ReplicaLogStatus};
use crate::Error;

/// How long a group waits for its quorum, and how long a replica may hang before it is left out.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

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
    pub(super) standing: Standing,
    /// The last group that it confirmed.
    pub(super) confirmed: u64,
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
    pub(super) preface: Preface,
    pub(super) numbers: Mutex<Numbers>,
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
            standing: Standing::Out,
            confirmed: 0,
            log_bytes: 0,
            problem: None,
        });
        let replicas = Mutex::new(replicas.collect());
        let roots = config.replicas.iter();
        let roots = roots.map(|replica| (replica.name.clone(), replica.root.to_string_lossy().into_owned()));
        let preface = Preface { at: (0, 0), quorum: config.quorum as u32, replicas: roots.collect() };
        Shared {
            config,
            preface,
            numbers: Mutex::new(numbers),
            replicas,
            changed: Condvar::new(),
            short_since: Mutex::new(None),
            closing: false.into(),
        }
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
            let holds = |one: &&Replica| one.standing == Standing::InSync && one.confirmed >= sequence;
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
        for replica in replicas.iter_mut().filter(|one| one.confirmed < sequence) {
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
        let one = |replica: &Replica| ReplicaLogStatus {
            name: replica.name.clone(),
            in_sync: replica.standing == Standing::InSync,
            behind: numbers.committed.saturating_sub(replica.confirmed),
            problem: replica.problem.clone().filter(|_| replica.standing != Standing::InSync),
        };
        ChangeLogStatus {
            sequence: numbers.committed,
            quorum: self.config.quorum,
            replicas: replicas.iter().map(one).collect(),
        }
    }
}

fn in_sync(replicas: &[Replica]) -> usize {
    replicas.iter().filter(|one| one.standing == Standing::InSync).count()
}
