//! What a task definition asks of the place where it runs: checked, translated, accounted.
//!
//! Pure functions over the definition and its overrides; every API and reconciler asks here, so that
//! validation, placement, policies and agents never see different things.

mod attributes;
mod containers;
mod demand;
mod host_access;
mod validate;

pub(crate) use attributes::{is_ecr_name, required_attributes, secret_provider};
pub(crate) use demand::{Demand, check_resources, gpus, parse_cpu, parse_memory};
pub(crate) use host_access::HostAccess;
pub(crate) use validate::{check_expression, check_role, validate};

use crate::model::DefinitionContent;

/// Whether a definition says that it runs on Fargate alone, which Berth is not.
pub(crate) fn is_fargate_only(content: &DefinitionContent) -> bool {
    !content.requires_compatibilities.is_empty()
        && content.requires_compatibilities.iter().all(|compatibility| compatibility == "FARGATE")
}
