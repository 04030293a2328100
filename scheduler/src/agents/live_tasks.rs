//! Which tasks are not over: credentials that were made for one end with it.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::RwLock;
use policies_identity::LiveTasks;
use registry_sql::Database;

use crate::ids::{ClusterName, TaskId};
use crate::lead::Lead;
use crate::names::Names;
use crate::store::{StoreError, stopped_tasks};

/// What a server that does not lead knows of tasks: those that are over.
#[derive(Clone, Default)]
pub(crate) struct Follower {
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    /// The count of changes that this was read at.
    commits: Option<i64>,
    stopped: HashSet<TaskId>,
}

impl Follower {
    /// Reads what is over by now, if anything has changed.
    pub(crate) async fn refresh(&self, database: &Database, commits: i64) -> Result<(), StoreError> {
        if self.known.read().commits == Some(commits) {
            return Ok(());
        }
        // Read after the count was: what is missing is read when the count has moved on.
        let stopped = stopped_tasks(database).await?;
        *self.known.write() = Known { commits: Some(commits), stopped };
        Ok(())
    }

    fn has_stopped(&self, id: &TaskId) -> bool {
        self.known.read().stopped.contains(id)
    }
}

/// A leader knows every task. Another server knows those that are over, a moment later: what it does not know was
/// placed a moment ago, or forgotten days after it stopped, when no credential of it is left.
pub(crate) struct TasksOfCluster {
    pub(crate) lead: Lead,
    pub(crate) follower: Follower,
    pub(crate) names: Names,
}

impl TasksOfCluster {
    fn parse(&self, task_arn: &str) -> Option<(ClusterName, TaskId)> {
        let (cluster, _) = task_arn.rsplit_once('/')?;
        let cluster = self.names.parse_cluster(cluster.rsplit('/').next()).ok()?;
        let id = self.names.parse_task(task_arn, &cluster).ok()?;
        Some((cluster, id))
    }
}

impl LiveTasks for TasksOfCluster {
    fn is_live(&self, task_arn: &str) -> bool {
        let Some((cluster, id)) = self.parse(task_arn) else { return false };
        match self.lead.present() {
            Some(core) => core
                .ledger
                .read_within()
                .task(&id)
                .is_some_and(|task| task.cluster == cluster && !task.is_stopped()),
            None => !self.follower.has_stopped(&id),
        }
    }
}
