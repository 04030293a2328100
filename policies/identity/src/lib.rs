//! Who may do what: principals, credentials, sessions and the one gate that every request passes.
//!
//! Requests are decided from a compiled snapshot in memory, never from the database, and every
//! decision is written to the audit log. Invariant: nothing is allowed unless `authorize` said so
//! with the policies of that moment.

mod api;
mod audit;
mod authenticate;
mod authorize;
mod caller;
mod check;
mod config;
mod context;
mod credentials;
mod directory;
mod error;
pub mod files;
mod first_start;
mod http;
mod identity;
mod instances;
mod mint;
mod oidc;
mod revocation;
mod roles;
mod session;
mod store;
mod tokens;
mod unique_id;

#[cfg(test)]
mod testing;

pub use api::{AwsApi, Protocol, serve_aws};
pub use audit::{
    AuditError, AuditEvidence, AuditFinding, AuditFindingKind, AuditReport, CheckpointPlaces, audit_files,
    verify_audit_log,
};
pub use authorize::{Allowed, Denied, DeniedKind};
pub use caller::{Caller, CallerKind, Scope};
pub use check::{Check, Resource};
pub use config::{BootstrapKey, IdentityConfig};
pub use context::{ContextError, RequestContext};
pub use credentials::{AccessKey, BearerToken, EcrToken, RefreshToken, TemporaryCredentials};
pub use error::{AuthenticationError, IdentityError};
pub use first_start::Bootstrap;
pub use http::{BerthIdentity, Iam, RepositoryPolicies, Sts};
pub use identity::Identity;
pub use oidc::Issuers;
pub use roles::{AssumeRole, AssumeRoleError, LiveTasks, TaskRole, TaskRoleError};
