//! What identity is told at start. Resolved by the binary before a port is bound.

use std::path::PathBuf;

use registry_runtime::SecretString;
use registry_types::{AccountId, Region};

/// The settings of [`crate::Identity`].
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// The one account of this Berth.
    pub account_id: AccountId,
    /// The region that SigV4 scopes must name.
    pub region: Region,
    /// The administrator's first access key; made at random when absent. Used at the first start only.
    pub bootstrap: Option<BootstrapKey>,
    /// Where the administrator's first key is written (mode 0600, the format of `~/.aws/credentials`).
    pub credentials_file: Option<PathBuf>,
    /// Where decisions are written, one JSON object a line (mode 0600).
    pub audit_log: PathBuf,
    /// How far the time of a signature may lie from ours, both ways, in milliseconds.
    pub clock_skew_ms: i64,
}

impl IdentityConfig {
    /// The skew that AWS documents: five minutes.
    pub const DEFAULT_CLOCK_SKEW_MS: i64 = 5 * 60 * 1000;
}

/// An access key that the operator chose for the administrator.
#[derive(Clone, Debug)]
pub struct BootstrapKey {
    /// 16 to 128 of `A`–`Z` and `0`–`9`.
    pub access_key_id: String,
    /// 32 characters or more.
    pub secret_access_key: SecretString,
}
