//! Whether a role may pull an image, asked of the registry before each creation of a container.
//!
//! Questions about one (role, digest) that are under way at the same time are asked once. An allow is
//! noted on this host; it counts only while the registry cannot be reached, and only for the grace.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use registry_runtime::Clock;

use crate::pull::upstream::{Access, Upstream, UpstreamError};
use crate::store::{Store, Values};

const PREFIX: &str = "allow/";
/// An allow is not written again within this time.
const NOTE_INTERVAL_MS: i64 = 10 * 60 * 1000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    principal: String,
    repository: String,
    digest: String,
}

impl Question {
    fn key(&self) -> String {
        format!("{PREFIX}{} {}@{}", self.principal, self.repository, self.digest)
    }
}

/// The registry's yes, or a noted one that stands in for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    Now,
    /// The registry is away; it said yes within the grace.
    Noted,
}

type Answer = Shared<BoxFuture<'static, Result<Allowed, UpstreamError>>>;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rights(Arc<Inner>);

struct Inner {
    upstream: Arc<Upstream>,
    store: Store,
    clock: Clock,
    grace_ms: i64,
    /// When the registry last said yes.
    noted: Mutex<HashMap<String, i64>>,
    asked: Mutex<HashMap<Question, Answer>>,
}

impl Rights {
    /// Takes up what was noted before; what is past the grace goes.
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        store: Store,
        values: &Values,
        clock: Clock,
        grace_ms: i64,
    ) -> Self {
        let now_ms = clock.now_ms();
        let mut noted = HashMap::new();
        for (key, value) in values.iter().filter(|(key, _)| key.starts_with(PREFIX)) {
            let at_ms = <[u8; 8]>::try_from(value.as_slice()).map_or(0, i64::from_be_bytes);
            if at_ms + grace_ms > now_ms {
                noted.insert(key.clone(), at_ms);
            } else {
                store.delete(key);
            }
        }
        let inner =
            Inner { upstream, store, clock, grace_ms, noted: Mutex::new(noted), asked: Mutex::default() };
        Self(Arc::new(inner))
    }

    /// Asks; an answer that somebody waits for already is shared.
    pub(crate) async fn check(
        &self,
        access: &Access,
        repository: &str,
        digest: &str,
    ) -> Result<Allowed, UpstreamError> {
        let question = Question {
            principal: access.principal().to_owned(),
            repository: repository.to_owned(),
            digest: digest.to_owned(),
        };
        let answer = {
            let mut asked = self.0.asked.lock();
            if let Some(answer) = asked.get(&question) {
                answer.clone()
            } else {
                let answer = self.clone().ask(access.clone(), question.clone()).boxed().shared();
                asked.insert(question, answer.clone());
                answer
            }
        };
        answer.await
    }

    async fn ask(self, access: Access, question: Question) -> Result<Allowed, UpstreamError> {
        // Removed however this ends, so that the next creation asks anew.
        let _forget = Forget(&self.0, question.clone());
        let answer = self.0.upstream.may_pull(&access, &question.repository, &question.digest).await;
        let key = question.key();
        let now_ms = self.0.clock.now_ms();
        match answer {
            Ok(()) => {
                self.note(key, now_ms);
                Ok(Allowed::Now)
            }
            Err(UpstreamError::Away(why)) => {
                let noted = self.0.noted.lock().get(&key).copied();
                if noted.is_some_and(|at_ms| at_ms + self.0.grace_ms > now_ms) {
                    Ok(Allowed::Noted)
                } else {
                    Err(UpstreamError::Away(why))
                }
            }
            Err(refused) => {
                if self.0.noted.lock().remove(&key).is_some() {
                    self.0.store.delete(&key);
                }
                Err(refused)
            }
        }
    }

    fn note(&self, key: String, now_ms: i64) {
        let mut noted = self.0.noted.lock();
        let written = noted.get(&key).copied().unwrap_or(i64::MIN);
        if now_ms.saturating_sub(written) >= NOTE_INTERVAL_MS {
            self.0.store.put(&key, now_ms.to_be_bytes().to_vec());
            noted.insert(key, now_ms);
        }
    }
}

struct Forget<'a>(&'a Inner, Question);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.asked.lock().remove(&self.1);
    }
}
