//! The control policies of organisations, level by level.

use std::collections::BTreeMap;

use policies::{Named, PolicyKind};
use registry_types::AccountId;

use crate::store::Level;

/// An account without levels belongs to no organisation: nothing controls it.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    service: BTreeMap<AccountId, Ordered>,
    resource: Ordered,
}

/// Levels from the root of the organisation down.
#[derive(Debug, Default)]
struct Ordered {
    names: Vec<String>,
    policies: Vec<Vec<Named>>,
}

impl Levels {
    pub(super) fn add(&mut self, level: Level, policy: Named) {
        let ordered = match level.kind {
            PolicyKind::ResourceControl => &mut self.resource,
            _ => self.service.entry(level.account).or_default(),
        };
        let place = match ordered.names.binary_search(&level.name) {
            Ok(place) => place,
            Err(place) => {
                ordered.names.insert(place, level.name);
                ordered.policies.insert(place, Vec::new());
                place
            }
        };
        ordered.policies[place].push(policy);
    }

    /// Of the account of a caller.
    pub(crate) fn service_control(&self, account: &AccountId) -> &[Vec<Named>] {
        self.service.get(account).map_or(&[], |ordered| &ordered.policies)
    }

    /// Of the account that owns everything here.
    pub(crate) fn resource_control(&self) -> &[Vec<Named>] {
        &self.resource.policies
    }
}
