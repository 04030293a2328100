//! Checks a log against its chain: edits, gaps, reordering, and an end that is missing.
//!
//! Two passes over the files, oldest first. The first follows the checkpoints, each signed by the key that the one
//! before names, from an anchor in the metadata or on a replica on, and so learns the key that each stretch of lines
//! began with. The second checks every line. Lines that no checkpoint covers yet are checked with the key in the
//! metadata. Without the database, or with an older one, the replicas tell how far the log went.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use registry_runtime::Sealer;
use registry_sql::Database;
use serde::Serialize;

use super::chain::{Checkpoint, Head, LineKey, Linked};
use super::keeper::{AuditError, Keys, existing_chain_name};
use super::places::{self, CheckpointPlaces, anchor_name, last_name};
use super::recover::read_line;
use crate::store::audit;

/// Findings that are listed; more are only counted.
const LISTED: usize = 1000;
/// After which the log of a server that writes has what its metadata had.
const WRITTEN_AFTER: Duration = Duration::from_secs(2);

/// What a log is found to be.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditReport {
    pub files: usize,
    pub lines: u64,
    pub checkpoints: u64,
    /// Lines after the last checkpoint, where no metadata tells the key that they were written with.
    pub unchecked: u64,
    /// Places whose checkpoints were compared: `metadata`, and replicas.
    pub compared: Vec<String>,
    /// Places that could not be asked, and why.
    pub unread: Vec<String>,
    /// Numbers of the first and the last line.
    pub first: Option<u64>,
    pub last: Option<u64>,
    /// All findings, of which `findings` lists the first thousand.
    pub found: u64,
    pub findings: Vec<AuditFinding>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditFinding {
    pub kind: AuditFindingKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AuditFindingKind {
    /// A line does not have the MAC it was written with, or is none of the log's.
    Edited,
    /// Lines are missing between two that are there.
    Gap,
    /// A line stands where it was not written.
    Reordered,
    /// A checkpoint is not signed by the key that the one before names.
    Forged,
    /// Lines at the beginning are missing, and nothing vouches for the first that is there.
    MissingHead,
    /// Lines at the end are missing, which the metadata or a replica knows of.
    MissingTail,
    /// The metadata is older than what a replica has seen.
    RolledBack,
}

/// What knows how far the log went.
#[derive(Clone, Copy)]
pub struct AuditEvidence<'a> {
    /// None where the database is gone.
    pub database: Option<&'a Database>,
    pub sealer: &'a Sealer,
    /// The replicas, where there are any.
    pub places: Option<&'a dyn CheckpointPlaces>,
}

/// What the metadata and the replicas know of a chain.
#[derive(Default)]
struct Known {
    /// The last checkpoint of each place.
    lasts: Vec<(String, Checkpoint)>,
    /// The last checkpoint in the metadata, and the key of the lines after it.
    metadata: Option<(Checkpoint, LineKey)>,
    /// Checkpoints that are known for the first in the files.
    anchors: Vec<Checkpoint>,
    unread: Vec<String>,
}

impl Known {
    /// The checkpoint that is furthest on, and where it is known.
    fn furthest(&self) -> Option<&(String, Checkpoint)> {
        self.lasts.iter().max_by_key(|(_, last)| last.checkpoint)
    }
}

impl AuditReport {
    pub fn is_intact(&self) -> bool {
        self.found == 0
    }

    fn add(&mut self, kind: AuditFindingKind, place: Option<(&Path, u64)>, message: String) {
        self.found += 1;
        if self.findings.len() < LISTED {
            let (file, line) = place.map(|(file, line)| (file.to_owned(), line)).unzip();
            self.findings.push(AuditFinding { kind, file, line, message });
        }
    }
}

/// The files of a log, oldest first: those that were moved away (`audit.log.2`, `audit.log.1`), then the log.
///
/// # Errors
/// When the folder cannot be read.
pub fn audit_files(log: &Path) -> io::Result<Vec<PathBuf>> {
    let name = log.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut moved: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(log.parent().unwrap_or(Path::new(".")))? {
        let path = entry?.path();
        let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        let number = file.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.')?.parse().ok());
        moved.extend(number.map(|number| (number, path)));
    }
    moved.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
    let current = log.exists().then(|| log.to_owned());
    Ok(moved.into_iter().map(|(_, path)| path).chain(current).collect())
}

/// Verifies the files of one log, oldest first. Changes nothing, and may run beside the server that writes them.
///
/// # Errors
/// When a file or the database cannot be read; what is wrong with the log stands in the report.
pub async fn verify_audit_log(
    evidence: AuditEvidence<'_>,
    files: Vec<PathBuf>,
) -> Result<AuditReport, AuditError> {
    let report = verify_once(evidence, &files).await?;
    let late = |finding: &AuditFinding| {
        matches!(finding.kind, AuditFindingKind::MissingTail | AuditFindingKind::RolledBack)
    };
    if !report.findings.iter().any(late) {
        return Ok(report);
    }
    // A checkpoint that was signed just now is in the metadata first.
    tokio::time::sleep(WRITTEN_AFTER).await;
    verify_once(evidence, &files).await
}

async fn verify_once(evidence: AuditEvidence<'_>, files: &[PathBuf]) -> Result<AuditReport, AuditError> {
    let (mut report, checkpoints) = blocking({
        let files = files.to_vec();
        move || checkpoints(&files)
    })
    .await?;
    let first = checkpoints.first();
    let chain = match (first, files.last()) {
        (Some((checkpoint, ..)), _) => Some(checkpoint.chain.clone()),
        (None, Some(file)) => existing_chain_name(file)?,
        (None, None) => None,
    };
    let number = first.map_or(0, |(checkpoint, ..)| checkpoint.checkpoint);
    let known = match &chain {
        Some(chain) => known(evidence, chain, number).await?,
        None => Known::default(),
    };
    report.compared = known.lasts.iter().map(|(place, _)| place.clone()).collect();
    report.unread.clone_from(&known.unread);
    let Some((anchor, file, line)) = first else {
        let message = "no checkpoint is in these files: they are no audit log, or its beginning is missing";
        report.add(AuditFindingKind::MissingHead, None, message.to_owned());
        return Ok(report);
    };
    if !known.anchors.contains(anchor) || known.anchors.iter().any(|known| known != anchor) {
        let message = format!(
            "checkpoint {} is none that the metadata and the replicas know of: what is before it is missing, or it \
             was forged",
            anchor.checkpoint
        );
        report.add(AuditFindingKind::MissingHead, Some((&files[*file], *line)), message);
    }
    check_signatures(&mut report, &checkpoints, files);
    check_places(&mut report, &checkpoints, &known);
    let files = files.to_vec();
    blocking(move || check_lines(report, &checkpoints, &known, &files)).await
}

/// What is known of a chain, whose first checkpoint in the files has this number.
async fn known(evidence: AuditEvidence<'_>, chain: &str, first: u64) -> Result<Known, AuditError> {
    let mut known = Known::default();
    // The places first: they are never ahead of the metadata.
    if let Some(asked) = evidence.places {
        for place in asked.names().await {
            let last = places::read(asked, &place, &last_name(chain)).await;
            let anchor = places::read(asked, &place, &anchor_name(chain, first)).await;
            match (last, anchor) {
                (Ok(last), Ok(anchor)) => {
                    known.anchors.extend(anchor);
                    known.lasts.extend(last.map(|last| (place, last)));
                }
                (Err(problem), _) | (_, Err(problem)) => known.unread.push(format!("{place}: {problem}")),
            }
        }
    }
    let Some(database) = evidence.database else { return Ok(known) };
    let (name, number) = (chain.to_owned(), i64::try_from(first).unwrap_or(i64::MAX));
    let (row, anchor) = database
        .read(move |tx| {
            Ok::<_, registry_sql::Error>((audit::chain(tx, &name)?, audit::anchor(tx, &name, number)?))
        })
        .await?;
    known.anchors.extend(anchor.and_then(|json| serde_json::from_str(&json).ok()));
    if let Some(row) = row {
        let last: Checkpoint = serde_json::from_str(&row.checkpoint).map_err(|_| AuditError::Damaged)?;
        known.metadata = Some((last.clone(), Keys::open(evidence.sealer, &row)?.line));
        known.lasts.push(("metadata".to_owned(), last));
    }
    Ok(known)
}

/// Compares what each place knows with the log, and the places with each other.
fn check_places(report: &mut AuditReport, checkpoints: &[Placed], known: &Known) {
    for (place, last) in &known.lasts {
        let logged = checkpoints.iter().find(|(logged, ..)| logged.checkpoint == last.checkpoint);
        if logged.is_some_and(|(logged, ..)| logged != last) {
            let message = format!("checkpoint {} is another one in {place}", last.checkpoint);
            report.add(AuditFindingKind::Forged, None, message);
        }
    }
    if let Some((last, _)) = &known.metadata
        && let Some((place, further)) = known.furthest()
        && further.checkpoint > last.checkpoint
    {
        let message = format!(
            "the metadata is at checkpoint {} of {}, and {place} holds {} of {}: the database is an older one",
            last.checkpoint, last.time, further.checkpoint, further.time
        );
        report.add(AuditFindingKind::RolledBack, None, message);
    }
}

/// Where a checkpoint stands: file and line.
type Placed = (Checkpoint, usize, u64);

fn checkpoints(files: &[PathBuf]) -> Result<(AuditReport, Vec<Placed>), AuditError> {
    let mut found = Vec::new();
    for (file, path) in files.iter().enumerate() {
        each_line(path, |number, line| {
            found.extend(Checkpoint::parse(line).map(|checkpoint| (checkpoint, file, number)));
        })?;
    }
    let report =
        AuditReport { files: files.len(), checkpoints: found.len() as u64, ..AuditReport::default() };
    Ok((report, found))
}

fn check_signatures(report: &mut AuditReport, checkpoints: &[Placed], files: &[PathBuf]) {
    for pair in checkpoints.windows(2) {
        let ((before, ..), (after, file, line)) = (&pair[0], &pair[1]);
        let follows = after.chain == before.chain && after.checkpoint == before.checkpoint + 1;
        if !follows || !after.is_signed_by(&before.next) {
            let message = match follows {
                true => format!("checkpoint {} has a wrong signature", after.checkpoint),
                false => format!("checkpoint {} follows {}", after.checkpoint, before.checkpoint),
            };
            report.add(AuditFindingKind::Forged, Some((&files[*file], *line)), message);
        }
    }
}

/// Where the second pass is.
struct Walk {
    /// The last line: its number and MAC.
    last: Option<(u64, Head)>,
    /// The key of the line with this number, while it is known.
    key: Option<(u64, LineKey)>,
}

fn check_lines(
    mut report: AuditReport,
    checkpoints: &[Placed],
    known: &Known,
    files: &[PathBuf],
) -> Result<AuditReport, AuditError> {
    // The key that the lines from each checkpoint on began with is told by the next one.
    let mut keys: HashMap<u64, LineKey> = checkpoints
        .iter()
        .filter(|(checkpoint, ..)| checkpoint.checkpoint > 0)
        .map(|(checkpoint, ..)| (checkpoint.checkpoint - 1, LineKey::new(checkpoint.key)))
        .collect();
    if let Some((last, key)) = &known.metadata {
        keys.insert(last.checkpoint, key.clone());
    }
    let mut walk = Walk { last: None, key: None };
    for path in files {
        each_line(path, |number, line| walk.line(&mut report, &keys, (path, number), line))?;
    }
    (report.first, report.last) = (report.first, walk.last.map(|(number, _)| number));
    let logged = checkpoints.iter().map(|(checkpoint, ..)| checkpoint.checkpoint).max();
    if let Some((place, last)) = known.furthest()
        && logged.is_none_or(|logged| logged < last.checkpoint)
    {
        let message = format!(
            "the log went on at least to line {}, which checkpoint {} of {} in {place} covers",
            last.covers, last.checkpoint, last.time
        );
        report.add(AuditFindingKind::MissingTail, None, message);
    }
    Ok(report)
}

impl Walk {
    fn line(
        &mut self,
        report: &mut AuditReport,
        keys: &HashMap<u64, LineKey>,
        place: (&Path, u64),
        line: &[u8],
    ) {
        report.lines += 1;
        let Some(linked) = Linked::parse(line) else {
            let message = "this is no line of the log".to_owned();
            return report.add(AuditFindingKind::Edited, Some(place), message);
        };
        report.first.get_or_insert(linked.number);
        let checkpoint = Checkpoint::parse(line);
        let head = match (&self.last, &checkpoint) {
            (Some((number, head)), _) if linked.number == number + 1 => Some(*head),
            (Some((number, _)), _) if linked.number <= *number => {
                let message = format!("line {} stands after line {number}", linked.number);
                return report.add(AuditFindingKind::Reordered, Some(place), message);
            }
            (Some((number, _)), _) => {
                let message = format!("lines {} to {} are missing", number + 1, linked.number - 1);
                report.add(AuditFindingKind::Gap, Some(place), message);
                None
            }
            (None, Some(checkpoint)) => Some(checkpoint.head),
            (None, None) => None,
        };
        if let Some(checkpoint) = &checkpoint {
            if let Some(head) = head
                && (checkpoint.head != head || checkpoint.covers + 1 != linked.number)
            {
                let message = format!("checkpoint {} covers other lines than these", checkpoint.checkpoint);
                report.add(AuditFindingKind::Edited, Some(place), message);
            }
            self.key = keys.get(&checkpoint.checkpoint).map(|key| (linked.number, key.clone()));
        }
        if self.key.is_none() && checkpoint.is_none() {
            report.unchecked += 1;
        }
        // After a gap the line before is not there to check with; what follows is checked again.
        if let (Some(head), Some(key)) = (head, self.key_of(linked.number)) {
            if key.mac(&head, linked.covered) != linked.mac {
                let message = format!("line {} is not what was written", linked.number);
                report.add(AuditFindingKind::Edited, Some(place), message);
            }
        } else if let Some(key) = self.key_of(linked.number) {
            key.advance();
        }
        if let Some((number, _)) = &mut self.key {
            *number = linked.number + 1;
        }
        self.last = Some((linked.number, linked.mac));
    }

    /// The key of a line, from that of an earlier one.
    fn key_of(&mut self, wanted: u64) -> Option<&mut LineKey> {
        let (number, key) = self.key.as_mut()?;
        while *number < wanted {
            key.advance();
            *number += 1;
        }
        Some(key)
    }
}

/// Calls `visit` with each line and its number, from 1.
fn each_line(path: &Path, mut visit: impl FnMut(u64, &[u8])) -> Result<(), AuditError> {
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(path)?);
    let (mut line, mut number) = (Vec::new(), 0);
    while read_line(&mut reader, &mut line)? {
        number += 1;
        visit(number, &line);
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AuditError> + Send + 'static,
) -> Result<T, AuditError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| AuditError::Damaged)?
}
