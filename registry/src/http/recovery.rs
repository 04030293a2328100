//! Berth's own operation after a restore: `AdoptStore`.

use async_trait::async_trait;
use policies_identity::{AwsApi, Caller, Check, RequestContext};
use registry_aws::AwsError;
use registry_core::Registry;
use serde_json::{Value, json};

use super::berth::core;

const ADOPT: &str = "AdoptStore";

/// Taking what was restored for good, as far as `Berth_20261101` goes.
#[derive(Clone)]
pub struct BerthRecovery {
    registry: Registry,
}

impl BerthRecovery {
    /// Every operation's name.
    pub const OPERATIONS: &'static [&'static str] = &[ADOPT];

    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }
}

#[async_trait]
impl AwsApi for BerthRecovery {
    fn operations(&self) -> &'static [&'static str] {
        Self::OPERATIONS
    }

    async fn checks(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        operation: &str,
        _input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        match operation {
            ADOPT => Ok(vec![Check::any("berth:AdoptStore")]),
            _ => Err(AwsError::unknown_operation()),
        }
    }

    /// `{"adopted": true}` when a restore waited for it.
    async fn call(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        _operation: &str,
        _input: Value,
    ) -> Result<Value, AwsError> {
        let adopted = self.registry.adopt().await.map_err(|error| core(&error))?;
        Ok(json!({ "adopted": adopted }))
    }
}
