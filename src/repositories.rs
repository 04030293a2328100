//! The policies that repositories were given by ECR's API, for questions about who may do what.

use std::collections::BTreeMap;

use async_trait::async_trait;
use policies_identity::RepositoryPolicies;
use registry_aws::AwsError;
use registry_core::Registry;

/// Repositories that are read at a time.
const PAGE: u32 = 1000;

pub(crate) struct Repositories(pub(crate) Registry);

#[async_trait]
impl RepositoryPolicies for Repositories {
    async fn documents(&self) -> Result<BTreeMap<String, String>, AwsError> {
        let (mut documents, mut after) = (BTreeMap::new(), String::new());
        loop {
            let page = self.0.repositories(&after, PAGE).await.map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "repositories cannot be read");
                AwsError::server()
            })?;
            for repository in page.items {
                if let Some(policy) = repository.policy {
                    documents.insert(repository.name.to_string(), policy.text.to_string());
                }
            }
            match page.next {
                Some(next) => after = next,
                None => return Ok(documents),
            }
        }
    }
}
