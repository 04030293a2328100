//! Watching a policy directory, and publishing what it says when it has come to rest.
//!
//! Where the directory has a link `current`, the set behind it is published whenever the link changes.
//! Otherwise edits count once all looks of 300 ms saw the same and git is not at work: in the middle of a
//! checkout files of two generations lie side by side. Looks come every 150 ms, so an edit is in effect
//! within half a second here, and within the second on all servers. A directory that is gone, empty,
//! unreadable or wrong changes nothing: the last good generation stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use registry_runtime::{Shutdown, worker};
use thiserror::Error;

use super::check::check;
use super::finding::FileFinding;
use super::model::{KeySecret, PolicyFiles};
use super::publish::{Generation, PublishError};
use super::scan::{self, Stamp};
use crate::directory::milliseconds;
use crate::identity::Identity;

/// How far two looks lie apart.
const EVERY: Duration = Duration::from_millis(150);
/// For how long the directory must have been as it is.
const STILL: Duration = Duration::from_millis(300);
const CURRENT: &str = "current";

/// How the watched directory fares.
#[derive(Debug, Clone, Default)]
pub struct FilesStatus {
    /// The last set that was published by this watch.
    pub published: Option<Generation>,
    /// What keeps the directory, as it is now, from being published; empty when it is.
    pub problems: Vec<FileFinding>,
    pub warnings: Vec<FileFinding>,
    /// Git is at work on the directory: nothing is published until it is done.
    pub waiting_for_git: bool,
}

/// A directory that is being watched. Dropping it does not end the watch: the shutdown does.
#[derive(Clone)]
pub struct PolicyWatch {
    status: Arc<Mutex<FilesStatus>>,
    worker: worker::WorkerHandle,
}

/// Wrong, and told once by the worker; the details are in the status.
#[derive(Debug, Error)]
#[error("the policy directory {directory} is not in effect: {problem}")]
struct NotInEffect {
    directory: String,
    problem: String,
}

impl PolicyWatch {
    /// Watches until the shutdown begins.
    pub fn start(identity: Identity, directory: PathBuf, shutdown: &Shutdown) -> PolicyWatch {
        let status = Arc::new(Mutex::new(FilesStatus::default()));
        let watcher = Arc::new(tokio::sync::Mutex::new(Watcher::new(directory)));
        let shared = Arc::clone(&status);
        let worker = worker::spawn("policy files", EVERY, shutdown, move || {
            let (identity, watcher, status) = (identity.clone(), Arc::clone(&watcher), Arc::clone(&shared));
            async move { round(&identity, &mut *watcher.lock().await, &status).await }
        });
        PolicyWatch { status, worker }
    }

    pub fn status(&self) -> FilesStatus {
        self.status.lock().clone()
    }

    /// Looks now. Edits still need to have rested.
    pub fn nudge(&self) {
        self.worker.nudge();
    }
}

async fn round(
    identity: &Identity,
    watcher: &mut Watcher,
    status: &Mutex<FilesStatus>,
) -> Result<(), NotInEffect> {
    if watcher.refused_at.is_some_and(|generation| generation != identity.security_generation()) {
        watcher.refused_at = None;
        watcher.forget();
    }
    // The disk may be slow or gone: not in this thread.
    let directory = watcher.directory.clone();
    let mut taken = std::mem::replace(watcher, Watcher::new(directory));
    let looked = tokio::task::spawn_blocking(move || {
        let seen = taken.look(Instant::now());
        (taken, seen)
    });
    let Ok((back, seen)) = looked.await else { return Ok(()) };
    *watcher = back;
    status.lock().waiting_for_git = matches!(seen, Seen::GitAtWork);
    let outcome = match seen {
        Seen::Nothing | Seen::Restless | Seen::GitAtWork => return watcher.repeat(),
        Seen::Wrong(findings) => Err(findings),
        Seen::Settled(files) => {
            let by = format!("files: {}", watcher.directory.display());
            let warnings = files.warnings.clone();
            let generation = identity.security_generation();
            match settle(identity, watcher, *files, &by).await {
                Ok(generation) => Ok((generation, warnings)),
                Err(PublishError::Findings(findings)) => {
                    watcher.refused_at = Some(generation);
                    Err(findings)
                }
                // Not the files' fault: the next round tries again.
                Err(error @ (PublishError::Identity(_) | PublishError::Busy)) => {
                    watcher.forget();
                    return Err(watcher.not_in_effect(worker::describe(&error)));
                }
            }
        }
    };
    let mut status = status.lock();
    match outcome {
        Ok((generation, warnings)) => {
            if generation.changed {
                // From the first look that saw them, and how much of that the looks came too late.
                let settled = watcher.first_seen.elapsed();
                tracing::info!(
                    policies.generation = generation.number,
                    settled_ms = milliseconds(settled),
                    late_ms = milliseconds(watcher.late),
                    "policy files published"
                );
            }
            *status = FilesStatus { published: Some(generation), warnings, ..FilesStatus::default() };
            watcher.problem = None;
        }
        Err(findings) => {
            let (problems, warnings): (Vec<_>, Vec<_>) =
                findings.into_iter().partition(FileFinding::is_error);
            let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
            watcher.problem = Some(text.join("; "));
            *status = FilesStatus { published: status.published, problems, warnings, waiting_for_git: false };
        }
    }
    watcher.repeat()
}

/// Publishes, but for a directory that is as it was before the last stop, while another set was published
/// by hand since: that one stays until the directory changes.
async fn settle(
    identity: &Identity,
    watcher: &mut Watcher,
    files: PolicyFiles,
    by: &str,
) -> Result<Generation, PublishError> {
    if !watcher.has_published
        && let Some(generation) = identity.superseded(&files.content_sha256, by).await?
    {
        return Ok(generation);
    }
    let generation = identity.publish(Arc::new(files), by).await?;
    watcher.has_published = true;
    Ok(generation)
}

/// What a look at the directory brought.
enum Seen {
    /// As it was when it was last dealt with.
    Nothing,
    /// It was seen otherwise a moment ago.
    Restless,
    GitAtWork,
    Settled(Box<PolicyFiles>),
    Wrong(Vec<FileFinding>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    /// Where `current` leads to.
    Link(PathBuf),
    /// Of the directory, and of the secrets that the last set named outside of it.
    Edits(Stamp, Stamp),
    Unreadable(Vec<FileFinding>),
}

struct Watcher {
    directory: PathBuf,
    before: Option<Look>,
    /// When a look first saw what the last one saw.
    first_seen: Instant,
    looked: Instant,
    /// By how much the looks since `first_seen`, and that one, came too late.
    late: Duration,
    dealt_with: Option<Look>,
    /// Files outside that the last set named: a changed secret is a change too.
    secrets: Vec<PathBuf>,
    /// Since the start.
    has_published: bool,
    /// The security generation at which the tables, and not the files, stood against the set: a name that the API
    /// has, for one. When that is another, the set gets another try.
    refused_at: Option<i64>,
    problem: Option<String>,
}

impl Watcher {
    fn new(directory: PathBuf) -> Self {
        let now = Instant::now();
        Watcher {
            directory,
            before: None,
            first_seen: now,
            looked: now,
            late: Duration::ZERO,
            dealt_with: None,
            secrets: Vec::new(),
            has_published: false,
            refused_at: None,
            problem: None,
        }
    }

    fn look(&mut self, at: Instant) -> Seen {
        let now = self.glance();
        let late = at.saturating_duration_since(self.looked).saturating_sub(EVERY);
        self.looked = at;
        if self.before.as_ref() == Some(&now) {
            self.late += late;
        } else {
            (self.first_seen, self.late) = (at, late);
        }
        self.before = Some(now.clone());
        let rested = at.saturating_duration_since(self.first_seen) >= STILL;
        if self.dealt_with.as_ref() == Some(&now) {
            return Seen::Nothing;
        }
        let root = match &now {
            Look::Link(target) => target.clone(),
            _ if !rested => return Seen::Restless,
            Look::Unreadable(findings) => {
                let findings = findings.clone();
                self.dealt_with = Some(now);
                return Seen::Wrong(findings);
            }
            Look::Edits(..) if git_is_at_work(&self.directory) => return Seen::GitAtWork,
            Look::Edits(..) => self.directory.clone(),
        };
        let checked = check(&root);
        if let Ok(files) = &checked {
            let keys = files.users.iter().flat_map(|user| &user.access_keys);
            let named = keys.filter_map(|key| match &key.secret {
                KeySecret::File(path) => Some(path.clone()),
                KeySecret::Sealed(_) => None,
            });
            self.secrets = named.collect();
        }
        // What changed while it was read is read again. Which secrets there are is known only now.
        let after = self.glance();
        let same = match (&now, &after) {
            (Look::Edits(now, _), Look::Edits(after, _)) => now == after,
            (now, after) => now == after,
        };
        if !same {
            // The next look is the first to see it.
            self.before = None;
            return Seen::Restless;
        }
        self.before = Some(after.clone());
        self.dealt_with = Some(after);
        match checked {
            Ok(files) => Seen::Settled(Box::new(files)),
            Err(findings) => Seen::Wrong(findings),
        }
    }

    fn glance(&self) -> Look {
        let link = self.directory.join(CURRENT);
        if fs::symlink_metadata(&link).is_ok_and(|metadata| metadata.is_symlink()) {
            return match fs::canonicalize(&link) {
                Ok(target) => Look::Link(target),
                Err(error) => {
                    Look::Unreadable(vec![FileFinding::whole(CURRENT, format!("leads nowhere: {error}"))])
                }
            };
        }
        match scan::stamp(&self.directory) {
            Ok(stamp) => {
                let mut secrets = Stamp::default();
                for secret in &self.secrets {
                    let name = secret.display().to_string();
                    match fs::metadata(secret) {
                        Ok(metadata) => secrets.add(name, &metadata),
                        Err(_) => secrets.add_missing(name),
                    }
                }
                Look::Edits(stamp, secrets)
            }
            Err(findings) => Look::Unreadable(findings),
        }
    }

    /// Deals with the directory again at the next look, as if it had changed.
    fn forget(&mut self) {
        self.dealt_with = None;
    }

    /// The problem that stands, so that the worker goes on failing until it is gone.
    fn repeat(&self) -> Result<(), NotInEffect> {
        self.problem.clone().map_or(Ok(()), |problem| Err(self.not_in_effect(problem)))
    }

    fn not_in_effect(&self, problem: String) -> NotInEffect {
        NotInEffect { directory: self.directory.display().to_string(), problem }
    }
}

/// Whether git holds its lock on the checkout that the directory belongs to.
fn git_is_at_work(directory: &Path) -> bool {
    let Ok(real) = fs::canonicalize(directory) else { return false };
    for folder in real.ancestors() {
        let dot_git = folder.join(".git");
        let Ok(metadata) = fs::metadata(&dot_git) else { continue };
        if metadata.is_dir() {
            return dot_git.join("index.lock").exists();
        }
        // A linked work tree: `gitdir: PATH`.
        let text = fs::read_to_string(&dot_git).unwrap_or_default();
        let linked = text.strip_prefix("gitdir:").map(|path| folder.join(path.trim()));
        return linked.is_some_and(|git| git.join("index.lock").exists());
    }
    false
}

#[cfg(test)]
mod tests;
