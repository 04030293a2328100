//! Repositories that are filled from other registries, as somebody asks for what they lack.
//!
//! A pull of `PREFIX/NAME` fetches from the upstream of the rule for PREFIX, by the same push that clients use: what
//! comes is hashed here, and nothing is served before it is committed. However many ask for the same thing, one
//! fetch is under way. Invariant: whoever makes something be fetched was allowed to import it.

mod address;
mod challenge;
mod client;
mod error;
mod import;
mod provide;
mod read;
mod referrers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use policies_identity::{Caller, Identity, RequestContext};
use registry_core::{CoreError, PullThroughRule, Registry, Repository};
use registry_runtime::Clock;
use registry_types::{Digest, Reference, RepositoryName};
use tokio::sync::{Semaphore, watch};

use crate::access::Access;

pub(crate) use address::{Place, PlaceError};
use client::Client;
pub(crate) use error::UpstreamError;
pub use provide::NotProvided;
pub(crate) use read::{NotReady, Reader, Ready};

/// The actions that fetching needs beside the one to read.
const IMPORT: &str = "ecr:BatchImportUpstreamImage";
const CREATE: &str = "ecr:CreateRepository";

/// What is fetched at a time; the rest waits.
const FETCHES: usize = 32;

/// Fetches that are under way or wait; what is asked for beyond them is asked for again later.
const MOST_UNDER_WAY: usize = 1024;

/// How long an upstream that could not be asked is left alone, where something older can be served.
const SILENCE: Duration = Duration::from_secs(5);

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct PullThroughConfig {
    /// `HOST` or `HOST:PORT` that may lie at an address that is not public, and may speak plain HTTP; with `http://`
    /// before it one that speaks it unless a rule says otherwise.
    pub private_hosts: Vec<String>,
    /// How long a tag is served without asking its upstream again.
    pub revalidate: Duration,
}

impl Default for PullThroughConfig {
    fn default() -> Self {
        Self { private_hosts: Vec::new(), revalidate: Duration::from_secs(3600) }
    }
}

/// What came of fetches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullThroughCounts {
    pub fetched: u64,
    pub failed: u64,
    /// Answers that may be older than what their upstream has.
    pub stale: u64,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct PullThrough {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    identity: Identity,
    access: Arc<Access>,
    config: PullThroughConfig,
    clock: Clock,
    client: Client,
    rules: RwLock<Arc<[Arc<PullThroughRule>]>>,
    under_way: Mutex<HashMap<Wanted, watch::Receiver<Option<Outcome>>>>,
    slots: Semaphore,
    lists: Semaphore,
    fetched: AtomicU64,
    failed: AtomicU64,
    stale: AtomicU64,
    /// Rules whose upstream could not be asked, and when.
    silent: Mutex<HashMap<String, Instant>>,
    /// What [`PullThrough::provide`] could not provide, and when.
    absent: Mutex<HashMap<Wanted, (Instant, String)>>,
}

type Outcome = Result<(), UpstreamError>;

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    name: RepositoryName,
    part: Part,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Manifest(Reference),
    Blob(Digest),
}

/// What is here of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// It is here, and may be served as it is.
    Fresh,
    /// It is here, and the upstream is to be asked whether it still is the same.
    Due,
    /// It is here, and the upstream could not be asked a moment ago.
    Stale,
    Absent,
    /// It is a blob that no manifest here names: its upstream is not asked for it either.
    Unnamed,
}

impl PullThrough {
    pub fn new(
        registry: Registry,
        identity: Identity,
        access: Arc<Access>,
        config: PullThroughConfig,
    ) -> Self {
        let clock = registry.clock().clone();
        // Names are compared as URLs have them.
        let private_hosts = config.private_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let config = PullThroughConfig { private_hosts, ..config };
        let client = Client::new(&config.private_hosts, clock.clone());
        Self {
            inner: Arc::new(Inner {
                registry,
                identity,
                access,
                config,
                clock,
                client,
                rules: RwLock::new(Arc::new([])),
                under_way: Mutex::default(),
                slots: Semaphore::new(FETCHES),
                lists: Semaphore::new(referrers::LISTS),
                fetched: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                stale: AtomicU64::new(0),
                silent: Mutex::default(),
                absent: Mutex::default(),
            }),
        }
    }

    /// What came of fetches since the start.
    pub fn counts(&self) -> PullThroughCounts {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        PullThroughCounts {
            fetched: count(&self.inner.fetched),
            failed: count(&self.inner.failed),
            stale: count(&self.inner.stale),
        }
    }

    /// Counts an answer that may be older than what its upstream has.
    pub(crate) fn note_stale(&self) {
        self.inner.stale.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads the rules again. Done at the start, after every change through this server, and twice a second, so that
    /// a change through another server acts within a second.
    ///
    /// # Errors
    /// When they cannot be read; those that are known stay in force.
    pub async fn refresh(&self) -> Result<(), CoreError> {
        let rules = self.inner.registry.pull_through_rules().await?;
        *self.inner.rules.write() = rules.into_iter().map(Arc::new).collect();
        Ok(())
    }

    /// The rule for a repository: that of the longest prefix.
    pub(crate) fn rule(&self, name: &RepositoryName) -> Option<Arc<PullThroughRule>> {
        let rules = self.inner.rules.read();
        let matching = rules.iter().filter(|rule| below(&rule.prefix, name.as_str()).is_some());
        matching.max_by_key(|rule| rule.prefix.len()).cloned()
    }

    /// Where a rule leads.
    ///
    /// # Errors
    /// Says why it leads nowhere.
    pub(crate) fn place(&self, upstream_url: &str) -> Result<Place, PlaceError> {
        Place::parse(upstream_url, &self.inner.config.private_hosts)
    }

    /// Asks an upstream whether it would answer this registry.
    ///
    /// # Errors
    /// Why it would not.
    pub(crate) async fn probe(&self, rule: &PullThroughRule) -> Result<(), UpstreamError> {
        self.inner.client.probe(&self.inner.source(rule, "")?).await
    }

    /// What is here of what somebody asks for.
    async fn held(
        &self,
        rule: &PullThroughRule,
        repository: Option<&Repository>,
        part: &Part,
    ) -> Result<Held, CoreError> {
        let Some(repository) = repository else {
            return Ok(if matches!(part, Part::Blob(_)) { Held::Unnamed } else { Held::Absent });
        };
        let registry = &self.inner.registry;
        let found = match part {
            Part::Manifest(Reference::Tag(tag)) => {
                let Some(known) = registry.upstream_tag(repository, tag).await? else {
                    return Ok(Held::Absent);
                };
                return Ok(known.checked_at_ms.map_or(Held::Fresh, |at| self.inner.age(rule, at)));
            }
            Part::Manifest(reference) => registry.manifest_info(repository, reference).await.map(drop),
            Part::Blob(digest) => registry.blob_info(repository, digest).await.map(drop),
        };
        match (found, part) {
            (Ok(()), _) => Ok(Held::Fresh),
            (Err(CoreError::BlobNotFound), Part::Blob(digest)) => {
                let is_named = registry.stated_size(repository, digest).await?.is_some();
                Ok(if is_named { Held::Absent } else { Held::Unnamed })
            }
            (Err(CoreError::ManifestNotFound), _) => Ok(Held::Absent),
            (Err(error), _) => Err(error),
        }
    }

    /// Fetches what is wanted, together with everybody else who wants it. The caller was allowed to import it, and
    /// is asked for again where the fetch is recorded.
    ///
    /// # Errors
    /// What kept it from being fetched.
    async fn fetch(
        &self,
        rule: &Arc<PullThroughRule>,
        wanted: Wanted,
        caller: &Caller,
        context: &RequestContext,
    ) -> Outcome {
        let mut outcome = {
            let mut under_way = self.inner.under_way.lock();
            match under_way.get(&wanted) {
                Some(outcome) => outcome.clone(),
                None if under_way.len() >= MOST_UNDER_WAY => return Err(UpstreamError::Busy),
                None => {
                    let (done, outcome) = watch::channel(None);
                    under_way.insert(wanted.clone(), outcome.clone());
                    let landing = Landing { inner: Arc::clone(&self.inner), wanted };
                    let (rule, caller, context) = (Arc::clone(rule), caller.begun(), context.clone());
                    // Whoever asked first may go away; the others, and the next, have it all the same.
                    tokio::spawn(async move {
                        let fetched = landing.inner.run(&rule, &landing.wanted, &caller, &context).await;
                        drop(landing);
                        done.send_replace(Some(fetched));
                    });
                    outcome
                }
            }
        };
        match outcome.wait_for(Option::is_some).await {
            Ok(done) => done.clone().unwrap_or(Err(UpstreamError::Own)),
            Err(_) => Err(UpstreamError::Own),
        }
    }
}

/// A fetch that is under way; it is over when this is dropped, however it ended.
struct Landing {
    inner: Arc<Inner>,
    wanted: Wanted,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.inner.under_way.lock().remove(&self.wanted);
    }
}

impl Inner {
    /// How fresh a tag is that was compared at `checked_at_ms`.
    fn age(&self, rule: &PullThroughRule, checked_at_ms: i64) -> Held {
        let age_ms = self.clock.now_ms().saturating_sub(checked_at_ms);
        // A clock that was set back makes nothing fresh for longer than it should be.
        let is_fresh =
            u64::try_from(age_ms).is_ok_and(|age_ms| Duration::from_millis(age_ms) < self.config.revalidate);
        if is_fresh {
            return Held::Fresh;
        }
        if self.is_silent(rule) { Held::Stale } else { Held::Due }
    }

    /// Whether the upstream could not be asked a moment ago.
    fn is_silent(&self, rule: &PullThroughRule) -> bool {
        self.silent.lock().get(&rule.prefix).is_some_and(|since| since.elapsed() < SILENCE)
    }

    async fn run(
        &self,
        rule: &PullThroughRule,
        wanted: &Wanted,
        caller: &Caller,
        context: &RequestContext,
    ) -> Outcome {
        let _slot = self.slots.acquire().await.map_err(|_| UpstreamError::Own)?;
        // The record of who made it be fetched commits with what came.
        let fetched = self.identity.recorded(Box::pin(self.import(rule, wanted, caller, context))).await;
        match &fetched {
            Ok(()) => {
                self.fetched.fetch_add(1, Ordering::Relaxed);
                self.silent.lock().remove(&rule.prefix);
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                // What is nowhere is nobody's trouble but whoever's asked for it.
                if matches!(error, UpstreamError::Missing) {
                    return fetched;
                }
                tracing::warn!(
                    repository.name = %wanted.name,
                    upstream.url = %rule.upstream_url,
                    %error,
                    "nothing came from an upstream"
                );
                if error.is_silence() {
                    self.silent.lock().insert(rule.prefix.clone(), Instant::now());
                }
            }
        }
        fetched
    }
}

/// What stands behind a prefix in a repository's name; `None` when the repository does not lie below it.
fn below<'a>(prefix: &str, name: &'a str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(name);
    }
    name.strip_prefix(prefix)?.strip_prefix('/').filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn repositories_lie_below_a_prefix_by_whole_parts() {
        assert_eq!(below("docker-hub", "docker-hub/library/nginx"), Some("library/nginx"));
        assert_eq!(below("", "library/nginx"), Some("library/nginx"));
        for name in ["docker-hub", "docker-hubs/nginx", "team/docker-hub/nginx"] {
            assert_eq!(below("docker-hub", name), None, "{name}");
        }
    }
}
