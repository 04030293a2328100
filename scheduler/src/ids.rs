//! The names of things as types of their own, so that a task's id is never taken for a service's name.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! names {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub(crate) struct $name(Arc<str>);

        impl $name {
            pub(crate) fn new(text: &str) -> Self {
                Self(text.into())
            }

            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

names! {
    ClusterName,
    ServiceName,
    /// 32 hexadecimal digits.
    TaskId,
    /// 32 hexadecimal digits.
    InstanceId,
    /// `ecs-svc/` and 19 digits: what a service's tasks carry as `startedBy`.
    DeploymentId,
    Family,
}

/// A service's name is its own within a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ServiceKey {
    pub(crate) cluster: ClusterName,
    pub(crate) name: ServiceName,
}

/// One revision of a family. Ordered by family, then revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct DefinitionKey {
    pub(crate) family: Family,
    pub(crate) revision: i64,
}

impl fmt::Display for DefinitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.family, self.revision)
    }
}
