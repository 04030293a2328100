//! Who leads: this server, with the whole cluster in memory, or another one.
//!
//! One server leads at a time and does everything that the scheduler does; the others pass requests on to it.
//! Invariant: a server that does not lead decides nothing and answers nothing of its own.

use std::sync::Arc;

use parking_lot::RwLock;
use registry_aws::AwsError;
use tokio::sync::watch;

use crate::core::Core;

/// Where requests to the scheduler are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    Here,
    /// Another server; its address is empty when it can be reached by none.
    At(String),
    /// Nobody leads at the moment, or nobody knows who.
    Unknown,
}

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Lead {
    core: Arc<RwLock<Option<Arc<Core>>>>,
    leader: Arc<watch::Sender<Leader>>,
}

impl Lead {
    pub(crate) fn new() -> Lead {
        Lead { core: Arc::default(), leader: Arc::new(watch::Sender::new(Leader::Unknown)) }
    }

    /// The scheduler of this server's present term.
    ///
    /// # Errors
    /// 503 while another server leads.
    pub(crate) fn core(&self) -> Result<Arc<Core>, AwsError> {
        self.present().ok_or_else(|| AwsError::unavailable("Another server leads the scheduler. Try again."))
    }

    pub(crate) fn present(&self) -> Option<Arc<Core>> {
        self.core.read().clone()
    }

    pub(crate) fn begin(&self, core: Arc<Core>) {
        *self.core.write() = Some(core);
        self.leader.send_replace(Leader::Here);
    }

    pub(crate) fn end(&self) {
        *self.core.write() = None;
        self.leader.send_replace(Leader::Unknown);
    }

    /// Notes who leads, as this server sees it while it does not lead itself.
    pub(crate) fn follow(&self, leader: Leader) {
        self.leader.send_if_modified(|known| {
            let is_news = *known != leader;
            *known = leader;
            is_news
        });
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Leader> {
        self.leader.subscribe()
    }
}
