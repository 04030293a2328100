//! A database from what the replicas hold: the snapshot of the one that knows most, and every group behind it.

use std::path::{Path, PathBuf};

use super::LogSeal;
use super::chain::Chain;
use super::files::{Position, read_snapshot};
use super::record::{Group, Kind};
use crate::session::{Access, Session};
use crate::sqlite::sync_folder;
use crate::{Error, check_sqlite};

/// A replica as the restore found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSource {
    pub root: PathBuf,
    /// The last group it holds; `None` when it holds nothing that can be used.
    pub sequence: Option<u64>,
    pub problem: Option<String>,
}

/// A database that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredDatabase {
    /// The last group that is in it.
    pub sequence: u64,
    /// The replica it came from.
    pub from: PathBuf,
    /// Every replica that was looked at.
    pub replicas: Vec<LogSource>,
    /// Whether so many could be read that nothing acknowledged can be missing.
    pub certain: bool,
}

/// Writes the database that the replicas at `roots` hold to `target`, a file that must not be there. Replicas
/// that they name and that are there are asked too. Unless so many can be read that no acknowledged group can
/// be missing, it is refused, but with `accept_older`. Blocks.
///
/// # Errors
/// [`Error::LogUnusable`] says why; `target` is then not there.
pub fn restore_sqlite(
    roots: &[PathBuf],
    seal: &dyn LogSeal,
    target: &Path,
    accept_older: bool,
) -> Result<RestoredDatabase, Error> {
    let mut chains = Vec::new();
    let mut replicas = Vec::new();
    let mut waiting: Vec<PathBuf> = roots.to_vec();
    let mut needed = 1;
    while let Some(root) = waiting.pop() {
        if replicas.iter().any(|one: &LogSource| one.root == root) {
            continue;
        }
        let chain = Chain::read(&root, seal);
        let (sequence, problem) = match &chain {
            Ok(chain) => {
                let preface = &chain.preface;
                if preface.quorum > 0 {
                    needed = needed.max((preface.replicas.len() + 1).saturating_sub(preface.quorum as usize));
                }
                let named = preface.replicas.iter().map(|(_, root)| PathBuf::from(root));
                waiting.extend(named.filter(|root| root.is_dir()));
                let end = chain.end().map(|(_, sequence)| sequence);
                let damaged = chain.damaged.then(|| "its changes are damaged".to_owned());
                (
                    end,
                    damaged.or_else(|| end.is_none().then(|| "it holds no copy of the database".to_owned())),
                )
            }
            Err(problem) => (None, Some(problem.clone())),
        };
        replicas.push(LogSource { root: root.clone(), sequence, problem });
        chains.extend(chain.ok().filter(|chain| chain.end().is_some()).map(|chain| (root, chain)));
    }
    // A replica that no group waited for may lack the last ones.
    let whole = chains.iter().filter(|(_, chain)| !chain.damaged && chain.preface.quorum > 0).count();
    let certain = whole >= needed;
    if !certain && !accept_older {
        return Err(Error::LogUnusable(too_few(&replicas, whole, needed)));
    }
    // The one that knows most first; another when its snapshot turns out to be damaged.
    chains.sort_by_key(|(_, chain)| std::cmp::Reverse(chain.end()));
    let mut problem = String::new();
    for (root, chain) in &chains {
        match bring_back(chain, seal, target) {
            Ok(sequence) => {
                let best = chains[0].1.end().map(|(_, best)| best);
                let certain = certain && best == Some(sequence);
                if !certain && !accept_older {
                    remove(target);
                    break;
                }
                return Ok(RestoredDatabase { sequence, from: root.clone(), replicas, certain });
            }
            Err(reason) => {
                remove(target);
                tracing::warn!(replica.root = %root.display(), reason, "a replica cannot be used");
                problem = reason;
            }
        }
    }
    let none = too_few(&replicas, whole, needed);
    Err(Error::LogUnusable(if problem.is_empty() { none } else { problem }))
}

fn too_few(replicas: &[LogSource], whole: usize, needed: usize) -> String {
    let mut text = format!(
        "{whole} replicas can be read and {needed} are needed, so that nothing acknowledged is missing"
    );
    for replica in replicas {
        let state = replica.problem.as_deref().unwrap_or("can be read");
        text.push_str(&format!("\n  {}: {state}", replica.root.display()));
    }
    text
}

fn bring_back(chain: &Chain, seal: &dyn LogSeal, target: &Path) -> Result<u64, String> {
    let (at, path) = chain.snapshots.last().ok_or("there is no copy of the database")?;
    read_snapshot(path, *at, seal, target)?;
    let sequence = replay(chain, seal, target, *at)?;
    check_sqlite(target).map_err(|error| error.to_string())?;
    let synced = std::fs::File::open(target).and_then(|file| file.sync_all());
    let synced = synced.and_then(|()| sync_folder(target));
    synced.map_err(|error| format!("{}: {error}", target.display()))?;
    Ok(sequence)
}

fn replay(chain: &Chain, seal: &dyn LogSeal, target: &Path, from: Position) -> Result<u64, String> {
    let shown = |error: Error| format!("the changes do not fit the database: {error}");
    let session = Session::open(target, Access::Write).map_err(shown)?;
    // Synced once, as a whole.
    let fast = session.connection().execute_batch("PRAGMA synchronous = OFF");
    fast.map_err(|error| shown(error.into()))?;
    let mut sequence = from.sequence;
    chain.replay(from.sequence, seal, &mut |place, frame| {
        if place.previous != sequence {
            return Err("a group of changes is missing".to_owned());
        }
        run_again(&session, frame).map_err(|reason| format!("group {}: {reason}", place.sequence))?;
        sequence = place.sequence;
        Ok(())
    })?;
    let (term, _) = chain.end().ok_or("there is no copy of the database")?;
    session
        .connection()
        .execute(
            "UPDATE change_log SET term = ?1, sequence = ?2, frame = NULL WHERE id = 1",
            (term.cast_signed(), sequence.cast_signed()),
        )
        .and_then(|_| session.connection().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
        .map_err(|error| shown(error.into()))?;
    Ok(sequence)
}

/// Runs a group in one transaction; every statement must change as many rows as it did.
fn run_again(session: &Session, frame: &[u8]) -> Result<(), String> {
    let group = Group::decode(frame).ok_or("it is damaged")?;
    let shown = |error: Error| error.to_string();
    session.control("BEGIN IMMEDIATE").map_err(shown)?;
    for statement in &group.statements {
        let text = &group.texts[statement.text];
        match statement.kind {
            Kind::Batch => session.connection().execute_batch(text).map_err(|error| shown(error.into()))?,
            Kind::Statement => {
                let changed = session.run_again(text, &statement.params).map_err(shown)?;
                if changed != statement.changed {
                    return Err(format!(
                        "a statement changed {changed} rows where it had changed {}",
                        statement.changed
                    ));
                }
            }
        }
    }
    session.control("COMMIT").map_err(shown)
}

fn remove(target: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = target.as_os_str().to_owned();
        path.push(suffix);
        drop(std::fs::remove_file(path));
    }
}
