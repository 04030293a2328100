//! Faults of a server whose content and database lie on three replicas, each a disk of its own.
//!
//! Two replicas must hold what is acknowledged. So whatever befalls one of them fails nothing, and the disk of the
//! database may be lost for good together with any replica. What befalls two fails changes, and loses none that was
//! acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use registry_blob::FsStore;
use registry_core::CoreError;
use registry_metadata::Metadata;
use registry_metadata::adoption::{self, Restored};
use registry_runtime::{Clock, KeyError, KeyProvider, LocalKeys, RecordSeal, StreamKey, StreamKind};
use registry_sql::{
    ChangeLogConfig, Database, FrameSeal, LogFile, LogReplica, LogSeal, params, restore_sqlite,
};

use crate::disk::{Device, Disk, Fault, replica_folder};
use crate::world::{CLUSTER, DATABASE, REPLICAS, Shape, World};
use crate::{Operation, TIDY_EACH, is_acknowledged};

/// What strikes, and where if not anywhere.
#[derive(Clone, Copy, Debug)]
struct Blow {
    fault: Fault,
    within: &'static [Device],
}

impl Blow {
    /// Whether fewer replicas are left than must hold what is acknowledged.
    fn breaks_quorum(self) -> bool {
        self.within.len() > 1
    }

    /// The first replica that it leaves alone.
    fn spared(self) -> usize {
        (0..REPLICAS)
            .find(|number| !self.within.contains(&Device::Replica(*number)))
            .expect("not all are struck")
    }
}

/// Every fault anywhere, the disk of the database that is full, and replicas that are full or fail everything, one of
/// them or two: of those of a row one is drawn where not all are tried.
const BLOWS: [&[Blow]; 7] = [
    &[Blow { fault: Fault::Kill, within: &[] }],
    &[Blow { fault: Fault::PowerCut, within: &[] }],
    &[Blow { fault: Fault::Error, within: &[] }],
    &[
        Blow { fault: Fault::NoSpace, within: &[Device::Main] },
        Blow { fault: Fault::ShortWrite, within: &[Device::Main] },
    ],
    &[
        Blow { fault: Fault::NoSpace, within: &[Device::Replica(0)] },
        Blow { fault: Fault::ShortWrite, within: &[Device::Replica(1)] },
        Blow { fault: Fault::NoSpace, within: &[Device::Replica(2)] },
    ],
    &[
        Blow { fault: Fault::Dead, within: &[Device::Replica(0)] },
        Blow { fault: Fault::Dead, within: &[Device::Replica(1)] },
        Blow { fault: Fault::Dead, within: &[Device::Replica(2)] },
    ],
    &[
        Blow { fault: Fault::Dead, within: &[Device::Replica(0), Device::Replica(1)] },
        Blow { fault: Fault::NoSpace, within: &[Device::Replica(1), Device::Replica(2)] },
    ],
];

/// A server that ended is not waited for any longer: who waits within it for a disk hears nothing.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// Far longer than a replica takes to come back.
const STUCK: Duration = Duration::from_secs(60);

/// Runs an operation with every blow at every point, on several servers at a time: most of it is waiting for replicas
/// that come back.
pub(crate) async fn strike_everywhere(operation: &dyn Operation) {
    join_all(BLOWS.map(|blows| strike_at_every_point(operation, blows))).await;
}

async fn strike_at_every_point(operation: &dyn Operation, blows: &[Blow]) {
    let mut world = World::new(Shape::Three).await;
    let mut round = 0;
    for blow in blows.iter().copied() {
        let began = round;
        loop {
            let has_struck;
            (world, has_struck) = strike_once(operation, world, blow, round - began, round).await;
            round += 1;
            if !has_struck {
                break;
            }
        }
        tidy(&world).await;
        println!("{blow:?}: {} points", round - began - 1);
        assert!(round - began > 1, "{blow:?} strikes nothing");
    }
}

/// Runs an operation with drawn blows, each at a point that is drawn. `FAULTS_SEED` draws others.
pub(crate) async fn strike_somewhere(operation: &dyn Operation) {
    let seed = seed();
    println!("FAULTS_SEED={seed}");
    let mut draw = Draw(seed);
    let mut world = World::new(Shape::Three).await;
    for (round, blows) in BLOWS.into_iter().enumerate() {
        let blow = blows[draw.below(blows.len())];
        let points = points(operation, &world, blow, BLOWS.len() + round).await;
        let point = draw.below(points.max(1));
        println!("{blow:?}: point {point} of {points}");
        (world, _) = strike_once(operation, world, blow, point, round).await;
    }
    tidy(&world).await;
}

#[allow(clippy::disallowed_methods, reason = "a seed for a test comes from whoever runs it")]
fn seed() -> u64 {
    std::env::var("FAULTS_SEED").map_or(2026, |seed| seed.parse().unwrap())
}

/// Numbers from a seed (SplitMix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// How many calls a blow can strike.
async fn points(operation: &dyn Operation, world: &World, blow: Blow, round: usize) -> usize {
    operation.prepare(world, round).await;
    settle(world).await;
    world.disk.plan(blow.fault, blow.within, usize::MAX);
    operation.run(world, round).await.unwrap();
    told_everyone(world).await;
    let points = world.disk.passed();
    world.disk.calm();
    points
}

/// What is known of a change that was struck.
struct Attempt<'a> {
    operation: &'a dyn Operation,
    round: usize,
    /// What was shown before.
    before: BTreeSet<String>,
    acknowledged: bool,
    /// Whether what is refused may be there all the same: the database has it, and one replica.
    is_vague: bool,
    told: String,
}

/// One blow at one point, then the loss of the database's disk and of a replica. Whether the operation came so far.
async fn strike_once(
    operation: &dyn Operation,
    world: World,
    blow: Blow,
    point: usize,
    round: usize,
) -> (World, bool) {
    operation.prepare(&world, round).await;
    settle(&world).await;
    let told = format!("{blow:?} at point {point}, round {round}");
    let before = visible(&world).await;
    let is_vague = blow.breaks_quorum();
    let mut attempt = Attempt { operation, round, before, acknowledged: false, is_vague, told };
    let is_crash = blow.fault.is_crash();
    world.disk.plan(blow.fault, blow.within, point);
    let outcome = tokio::select! {
        outcome = operation.run(&world, round) => Some(outcome),
        () = ended(&world.disk) => None,
    };
    if !is_crash {
        told_everyone(&world).await;
    }
    let struck = world.disk.calm();
    if let Some(outcome) = outcome {
        // What befalls one replica fails nothing.
        let may_fail = is_crash || struck == Some(Device::Main) || blow.breaks_quorum();
        attempt.acknowledged = is_acknowledged(outcome, may_fail, &attempt.told);
    }
    // Where two were struck, the third is lost before they hear of what they missed, every other time.
    let ends_there = is_crash || blow.breaks_quorum() && round.is_multiple_of(2);
    if !ends_there {
        attempt.goes_on(&world).await;
    }
    let lost = match struck {
        Some(_) if blow.breaks_quorum() && ends_there => blow.spared(),
        // What the replica missed, it holds by now.
        Some(Device::Replica(number)) => (number + 1 + round % 2) % REPLICAS,
        _ => round % REPLICAS,
    };
    let crash = if blow.fault == Fault::Kill { Fault::Kill } else { Fault::PowerCut };
    let clock = world.clock.clone();
    let (left, damaged) = (Arc::new(world.disk.after(crash)), Arc::new(world.disk.after(crash)));
    // What it had on its disk and did not sync is gone before anybody looks there.
    drop(world);
    attempt.is_kept_by(&recovered(damaged, clock.clone(), lost, &attempt.told).await).await;
    let world = World::open(Shape::Three, left, clock).await.unwrap();
    attempt.is_kept_by(&world).await;
    if round.is_multiple_of(TIDY_EACH) {
        tidy(&world).await;
    }
    (world, struck.is_some())
}

impl Attempt<'_> {
    /// On the server that was struck and runs on: what it refused is not there, and once the disks are well it does
    /// it, on every replica.
    async fn goes_on(&mut self, world: &World) {
        let (round, told) = (self.round, &self.told);
        let done = self.operation.is_done(world, round).await;
        assert!(done == self.acknowledged || done && self.is_vague, "{told}: not as was said");
        assert!(done || visible(world).await == self.before, "{told}: half done");
        world.keeps().await;
        // A database whose sync failed takes nothing any more; everything else recovers by itself.
        if world.is_healthy() {
            settle(world).await;
        }
        let again = self.operation.run(world, round).await;
        self.acknowledged |= is_acknowledged(again, !world.is_healthy(), told);
        if world.is_healthy() {
            settle(world).await;
            let named = world.named().await;
            for folder in (0..REPLICAS).map(replica_folder) {
                assert!(named.is_subset(&world.stored(&folder)), "{told}: {folder} lacks objects");
            }
        }
    }

    /// On the next server: what was acknowledged is there, what was not is there as a whole or not at all.
    async fn is_kept_by(&self, world: &World) {
        let (round, told) = (self.round, &self.told);
        let done = self.operation.is_done(world, round).await;
        assert!(done || !self.acknowledged, "{told}: lost");
        assert!(done || visible(world).await == self.before, "{told}: half done");
        world.keeps().await;
        let again = self.operation.run(world, round).await;
        again.unwrap_or_else(|error| panic!("{told}, again: {error:?}"));
        assert!(self.operation.is_done(world, round).await, "{told}: done again");
    }
}

/// Returns when the program has ended and nothing more is to be expected of it.
pub(crate) async fn ended(disk: &Disk) {
    while !disk.is_over() {
        tokio::time::sleep(LAST_WORDS / 10).await;
    }
    tokio::time::sleep(LAST_WORDS).await;
}

/// Waits until every replica that can has taken what the database was told; an acknowledgement waits for two.
async fn told_everyone(world: &World) {
    let deadline = Instant::now() + STUCK;
    loop {
        let log = world.database.change_log().expect("the database has a log");
        if log.replicas.iter().all(|replica| !replica.in_sync || replica.lag.changes == 0) {
            return;
        }
        assert!(Instant::now() < deadline, "{log:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until every replica holds everything.
async fn settle(world: &World) {
    let upkeep = world.upkeep.as_ref().expect("there are replicas");
    let deadline = Instant::now() + STUCK;
    loop {
        let log = world.database.change_log().expect("the database has a log");
        if log.replicas.iter().all(|replica| replica.in_sync) {
            upkeep.hurry_repairs().await.unwrap();
            let more = upkeep.repair().await.unwrap();
            let status = upkeep.status().await.unwrap();
            if !more && status.replicas.iter().all(|replica| replica.repairs + replica.removals == 0) {
                return;
            }
        }
        assert!(Instant::now() < deadline, "{log:?}, {:?}", upkeep.status().await.unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Leaves only what is kept, on every replica, and looks that there is nothing else.
pub(crate) async fn tidy(world: &World) {
    settle(world).await;
    world.tidy().await;
    settle(world).await;
    world.has_nothing_left_over().await;
    world.keeps().await;
}

/// All that whoever asks for it is shown.
async fn visible(world: &World) -> BTreeSet<String> {
    let found = world.metadata.read(|tx| {
        let rows = tx.query(
            "SELECT 'blob', digest FROM blob_links UNION ALL SELECT 'manifest', digest FROM manifests \
             UNION ALL SELECT tag, digest FROM tags",
            params![],
        )?;
        let shown = rows.iter().map(|row| Ok(format!("{} {}", row.get::<String>(0)?, row.get::<String>(1)?)));
        shown.collect::<Result<BTreeSet<_>, CoreError>>()
    });
    found.await.unwrap()
}

/// A server on what two replicas hold, when the disk of the database and the third are gone.
async fn recovered(disk: Arc<Disk>, clock: Clock, lost: usize, told: &str) -> World {
    std::fs::remove_dir_all(disk.root().join(replica_folder(lost))).unwrap();
    for entry in std::fs::read_dir(disk.root()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let keys = LocalKeys::open(&disk.root().join("keys")).unwrap();
    let seal = Seal(StreamKey::of(&keys).unwrap());
    let roots = (0..REPLICAS).filter(|number| *number != lost);
    let roots: Vec<_> = roots.map(|number| disk.root().join(replica_folder(number))).collect();
    let target = disk.root().join(DATABASE);
    let restored = restore_sqlite(&roots, &seal, &target, false);
    let restored = restored.unwrap_or_else(|error| panic!("{told}, without replica {lost}: {error}"));
    assert!(restored.certain, "{told}: {restored:?}");
    let database = Database::open_sqlite(&target).await.unwrap();
    let metadata = Metadata::open(database.clone()).await.unwrap();
    let mark = Restored { at_ms: clock.now_ms(), source: restored.from.display().to_string() };
    let noted = metadata.write(move |tx| Ok::<_, CoreError>(adoption::note_restored(tx, &mark)?));
    noted.await.unwrap();
    database.close().await;
    World::open(Shape::Three, disk, clock).await.unwrap()
}

/// The change log on the replicas of a disk.
pub(crate) fn log_on(disk: &Disk, keys: &dyn KeyProvider) -> Result<ChangeLogConfig, KeyError> {
    let replicas = (0..REPLICAS).map(|number| {
        let (name, root) = (replica_folder(number), disk.root().join(replica_folder(number)));
        let place = root.clone();
        let check = move || match FsStore::marker(&place) {
            Ok(Some(marker)) if marker.cluster == CLUSTER => Ok(()),
            other => Err(format!("no replica: {other:?}")),
        };
        LogReplica { name, root, check: Arc::new(check), remote: None }
    });
    Ok(ChangeLogConfig {
        replicas: replicas.collect(),
        quorum: REPLICAS / 2 + 1,
        seal: Arc::new(Seal(StreamKey::of(keys)?)),
        snapshot_bytes: 1 << 20,
    })
}

/// Seals the log as a server does.
struct Seal(StreamKey);

struct Frames(RecordSeal);

fn kind(file: LogFile) -> StreamKind {
    match file {
        LogFile::Snapshot => StreamKind::Snapshot,
        LogFile::Changes => StreamKind::Changes,
    }
}

impl LogSeal for Seal {
    fn head_len(&self) -> usize {
        StreamKey::HEAD_LEN
    }

    fn begin(&self, file: LogFile) -> (Vec<u8>, Box<dyn FrameSeal>) {
        let (head, seal) = self.0.begin(kind(file));
        (head, Box::new(Frames(seal)))
    }

    fn open(&self, file: LogFile, head: &[u8]) -> Result<Box<dyn FrameSeal>, String> {
        let seal = self.0.open(kind(file), head).map_err(|error| error.to_string())?;
        Ok(Box::new(Frames(seal)))
    }
}

impl FrameSeal for Frames {
    fn seal(&mut self, plaintext: &[u8], last: bool) -> Vec<u8> {
        self.0.seal(plaintext, last)
    }

    fn open(&mut self, sealed: &[u8], last: bool) -> Option<Vec<u8>> {
        self.0.open(sealed, last)
    }
}
