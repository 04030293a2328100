//! Berth's own operations on quotas: `PutQuota`, `DeleteQuota` and `ListQuotas`.

use async_trait::async_trait;
use policies_identity::{AwsApi, Caller, Check, RequestContext};
use registry_aws::{AwsError, page};
use registry_core::{PrefixQuota, Quota, Registry};
use registry_types::RepositoryName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::berth::{core, read};

const PUT: &str = "PutQuota";
const DELETE: &str = "DeleteQuota";
const LIST: &str = "ListQuotas";

/// Quotas on one page.
const PAGE: u32 = 100;

/// What bounds repositories, as far as `Berth_20261101` goes.
#[derive(Clone)]
pub struct BerthQuotas {
    registry: Registry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutQuota {
    prefix: String,
    max_bytes: Option<u64>,
    max_images: Option<u64>,
}

#[derive(Deserialize)]
struct DeleteQuota {
    prefix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListQuotas {
    next_token: Option<String>,
}

impl BerthQuotas {
    /// Every operation's name.
    pub const OPERATIONS: &'static [&'static str] = &[PUT, DELETE, LIST];

    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    async fn put_quota(&self, input: Value) -> Result<Value, AwsError> {
        let request: PutQuota = read(input)?;
        let prefix = prefix(&request.prefix)?;
        let quota = Quota { max_bytes: request.max_bytes, max_images: request.max_images };
        if quota == Quota::default() {
            return Err(AwsError::invalid_parameter("Give maxBytes, maxImages or both."));
        }
        if [quota.max_bytes, quota.max_images]
            .into_iter()
            .flatten()
            .any(|bound| i64::try_from(bound).is_err())
        {
            return Err(AwsError::invalid_parameter("A bound is at most 2^63 - 1."));
        }
        let quota = self.registry.put_quota(prefix, quota).await.map_err(|error| core(&error))?;
        Ok(json!({ "quota": render(&quota) }))
    }

    async fn delete_quota(&self, input: Value) -> Result<Value, AwsError> {
        let request: DeleteQuota = read(input)?;
        if self.registry.delete_quota(prefix(&request.prefix)?).await.map_err(|error| core(&error))? {
            return Ok(json!({ "prefix": request.prefix }));
        }
        let message = format!("There is no quota of the prefix '{}'.", request.prefix);
        Err(AwsError::client("QuotaNotFoundException", message))
    }

    async fn list_quotas(&self, input: Value) -> Result<Value, AwsError> {
        let request: ListQuotas = read(input)?;
        let after = request.next_token.as_deref().map(page::decode).transpose()?;
        let page = self.registry.quotas(after.as_deref(), PAGE).await.map_err(|error| core(&error))?;
        let mut answer = json!({ "quotas": page.items.iter().map(render).collect::<Vec<_>>() });
        if let Some(next) = page.next {
            answer["nextToken"] = page::encode(&next).into();
        }
        Ok(answer)
    }
}

/// Empty for all repositories, else a name.
fn prefix(text: &str) -> Result<&str, AwsError> {
    if !text.is_empty() && text.parse::<RepositoryName>().is_err() {
        let message = "The prefix must be empty, for the whole registry, or a repository's name.";
        return Err(AwsError::invalid_parameter(message));
    }
    Ok(text)
}

fn render(quota: &PrefixQuota) -> Value {
    json!({
        "prefix": quota.prefix,
        "maxBytes": quota.quota.max_bytes,
        "maxImages": quota.quota.max_images,
        "bytes": quota.usage.bytes,
        "images": quota.usage.images,
    })
}

#[async_trait]
impl AwsApi for BerthQuotas {
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
        let action = match operation {
            PUT => "berth:PutQuota",
            DELETE => "berth:DeleteQuota",
            LIST => "berth:ListQuotas",
            _ => return Err(AwsError::unknown_operation()),
        };
        Ok(vec![Check::any(action)])
    }

    async fn call(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        operation: &str,
        input: Value,
    ) -> Result<Value, AwsError> {
        match operation {
            PUT => self.put_quota(input).await,
            DELETE => self.delete_quota(input).await,
            LIST => self.list_quotas(input).await,
            _ => Err(AwsError::unknown_operation()),
        }
    }
}
