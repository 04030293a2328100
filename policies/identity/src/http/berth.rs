//! Berth's own operations that belong to identity: publishing policy files, and telling which set is in effect.

mod operation;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use registry_aws::AwsError;
use registry_aws::timestamp::epoch_seconds;
use registry_types::Arn;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::AwsApi;
use crate::caller::Caller;
use crate::check::Check;
use crate::context::RequestContext;
use crate::error::IdentityError;
use crate::files::{Circumstances, Everybody, FileFinding, PolicyWatch, PublishError, check_texts, who_can};
use crate::identity::Identity;
use crate::store;
use operation::Operation;

/// A whole set of policy files; a large one has thousands.
const LARGEST_SET: usize = 16 * 1024 * 1024;

/// `Berth_20261101`, as far as identity serves it.
#[derive(Clone)]
pub struct BerthIdentity {
    identity: Identity,
    watch: Option<PolicyWatch>,
    repositories: Option<Arc<dyn RepositoryPolicies>>,
}

/// Who knows the policies that repositories were given by their own API.
#[async_trait]
pub trait RepositoryPolicies: Send + Sync {
    /// Documents by the names of the repositories that have one.
    ///
    /// # Errors
    /// When they cannot be read; the cause is logged.
    async fn documents(&self) -> Result<BTreeMap<String, String>, AwsError>;
}

impl BerthIdentity {
    /// Every operation's name.
    pub const OPERATIONS: &'static [&'static str] = Operation::NAMES;

    pub fn new(identity: Identity) -> Self {
        Self { identity, watch: None, repositories: None }
    }

    /// Answers for the policies of repositories, too.
    #[must_use]
    pub fn with_repositories(mut self, repositories: Arc<dyn RepositoryPolicies>) -> Self {
        self.repositories = Some(repositories);
        self
    }

    /// Tells about the directory that is being watched, too.
    #[must_use]
    pub fn with_watch(mut self, watch: PolicyWatch) -> Self {
        self.watch = Some(watch);
        self
    }
}

#[derive(Deserialize)]
struct PublishPolicies {
    files: Vec<File>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GetPolicyFiles {
    /// Also what the IAM API owns, and the policies of repositories, as files would say it.
    #[serde(default)]
    include_existing: bool,
}

#[derive(Deserialize)]
struct WhoCan {
    action: String,
    resource: String,
}

#[derive(Deserialize)]
struct File {
    path: String,
    content: String,
}

#[async_trait]
impl AwsApi for BerthIdentity {
    fn operations(&self) -> &'static [&'static str] {
        Operation::NAMES
    }

    fn body_limit(&self) -> usize {
        LARGEST_SET
    }

    async fn checks(
        &self,
        _ctx: &RequestContext,
        _caller: &Caller,
        operation: &str,
        input: &Value,
    ) -> Result<Vec<Check>, AwsError> {
        let operation = Operation::parse(operation)?;
        Ok(vec![match operation {
            Operation::RevokeSessions => {
                let principal = self.principal(input);
                match (principal, input["principal"].as_str()) {
                    // A refusal does not tell at which path somebody stands.
                    (Some(arn), Some(named)) => Check::on(operation.action(), arn).shown_as(named.to_owned()),
                    _ => Check::any(operation.action()),
                }
            }
            Operation::DescribePolicyGeneration
            | Operation::GetPolicyFiles
            | Operation::PublishPolicies
            | Operation::WhoCan => Check::any(operation.action()),
        }])
    }

    async fn call(
        &self,
        _ctx: &RequestContext,
        caller: &Caller,
        operation: &str,
        input: Value,
    ) -> Result<Value, AwsError> {
        match Operation::parse(operation)? {
            Operation::DescribePolicyGeneration => self.describe_policy_generation().await,
            Operation::GetPolicyFiles => self.get_policy_files(input).await,
            Operation::PublishPolicies => self.publish_policies(caller, input).await,
            Operation::RevokeSessions => self.revoke_sessions(&input).await,
            Operation::WhoCan => self.who_can(input).await,
        }
    }
}

impl BerthIdentity {
    async fn publish_policies(&self, caller: &Caller, input: Value) -> Result<Value, AwsError> {
        let request = PublishPolicies::deserialize(input).map_err(AwsError::malformed)?;
        let mut texts = BTreeMap::new();
        // A directory may hold a README; what counts are the same files as on the disk.
        for file in request.files.into_iter().filter(|file| file.path.ends_with(".json")) {
            if let Some(twice) = texts.insert(file.path.clone(), file.content).map(|_| file.path) {
                return Err(AwsError::invalid_parameter(format!(
                    "The file {twice} stands in the set twice."
                )));
            }
        }
        let checked = tokio::task::spawn_blocking(move || check_texts(&texts)).await;
        let files = checked.map_err(|_| AwsError::server())?.map_err(|findings| invalid(&findings))?;
        let warnings = json!(files.warnings);
        match self.identity.publish(Arc::new(files), caller.arn()).await {
            Ok(generation) => Ok(json!({
                "generation": generation.number,
                "changed": generation.changed,
                "warnings": warnings,
            })),
            Err(PublishError::Findings(findings)) => Err(invalid(&findings)),
            Err(PublishError::Busy) => Err(AwsError::throttling()),
            Err(PublishError::Identity(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "policy files were not published");
                Err(AwsError::server())
            }
        }
    }

    /// The files of the newest generation, as they were published.
    async fn get_policy_files(&self, input: Value) -> Result<Value, AwsError> {
        let request = GetPolicyFiles::deserialize(input).map_err(AwsError::malformed)?;
        let texts = self.identity.published_texts().await.map_err(|error| unreadable(&error))?;
        let file = |(path, content)| json!({ "path": path, "content": content });
        let mut answer = json!({ "files": texts.into_iter().flatten().map(file).collect::<Vec<_>>() });
        if request.include_existing {
            let existing = self.identity.existing_texts(self.repository_policies().await?).await;
            let existing = existing.map_err(|error| unreadable(&error.into()))?;
            answer["existing"] = existing.into_iter().map(file).collect();
        }
        Ok(answer)
    }

    async fn repository_policies(&self) -> Result<BTreeMap<String, String>, AwsError> {
        match &self.repositories {
            Some(repositories) => repositories.documents().await,
            None => Ok(BTreeMap::new()),
        }
    }

    /// Ends what was made with the credentials of a user or a role: sessions, tokens, refresh tokens. Or one session,
    /// which is named by its access key id.
    async fn revoke_sessions(&self, input: &Value) -> Result<Value, AwsError> {
        if let Some(access_key_id) = input["accessKeyId"].as_str() {
            return match self.identity.revoke_session(access_key_id).await {
                Ok(()) => Ok(json!({ "accessKeyId": access_key_id })),
                Err(IdentityError::Invalid(_)) => Err(AwsError::invalid_parameter(
                    "accessKeyId is the access key id of a session: ASIA and 16 letters and digits.",
                )),
                Err(error) => Err(not_revoked(&error)),
            };
        }
        let principal = self.principal(input).ok_or_else(|| {
            AwsError::invalid_parameter(
                "principal is the ARN of a user or a role, or user/NAME or role/NAME; accessKeyId names one session.",
            )
        })?;
        match self.identity.end_sessions(&principal).await {
            Ok(()) => Ok(json!({ "principalArn": principal })),
            Err(IdentityError::NotFound(_)) => {
                Err(AwsError::client("PrincipalNotFoundException", format!("There is no {principal}.")))
            }
            Err(error) => Err(not_revoked(&error)),
        }
    }

    /// Whom a request names: by ARN, or by kind and name. A name that nobody has stands at the path `/`.
    fn principal(&self, input: &Value) -> Option<Arn> {
        let text = input["principal"].as_str()?;
        if text.starts_with("arn:") {
            let arn: Arn = text.parse().ok()?;
            let is_principal = ["user/", "role/"].iter().any(|kind| arn.resource().starts_with(kind));
            return (is_principal && arn.service() == "iam").then_some(arn);
        }
        let (kind, name) = text.split_once('/')?;
        let directory = self.identity.inner().directory.load();
        let found = match kind {
            "user" => directory.user_by_name(name),
            "role" => directory.role_by_name(name),
            _ => return None,
        };
        let arn = format!("arn:aws:iam::{}:{kind}/{name}", self.identity.account_id());
        found.map_or(arn.as_str(), |found| &found.arn).parse().ok()
    }

    /// Who of everybody who exists may do something.
    async fn who_can(&self, input: Value) -> Result<Value, AwsError> {
        let request = WhoCan::deserialize(input).map_err(AwsError::malformed)?;
        let everybody = self.identity.everybody(self.repository_policies().await?).await;
        let everybody = everybody.map_err(|error| unreadable(&error))?;
        let Everybody { files, left_out } = everybody.map_err(|findings| invalid(&findings))?;
        let (region, now_ms) = (self.identity.region().clone(), self.identity.now_ms());
        let asked = tokio::task::spawn_blocking(move || {
            let circumstances = Circumstances { region: &region, now_ms };
            who_can(&files, &request.action, &request.resource, &circumstances)
        });
        let permitted = asked.await.map_err(|_| AwsError::server())?;
        let permitted = permitted.map_err(|error| AwsError::invalid_parameter(error.to_string()))?;
        let left_out: Vec<String> = left_out.iter().map(ToString::to_string).collect();
        Ok(json!({ "principals": permitted, "leftOut": left_out }))
    }

    async fn describe_policy_generation(&self) -> Result<Value, AwsError> {
        let newest = self.identity.inner().database.read(|tx| store::generations::newest(tx)).await;
        let newest = newest.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the policy generation cannot be read");
            AwsError::server()
        })?;
        let mut answer = json!({ "securityGeneration": self.identity.security_generation() });
        match newest {
            Some(newest) => {
                answer["generation"] = newest.number.into();
                answer["publishedAt"] = epoch_seconds(newest.published_ms);
                answer["publishedBy"] = newest.published_by.into();
                answer["contentSha256"] = newest.content_sha256.into();
            }
            None => answer["generation"] = 0.into(),
        }
        if let Some(watch) = &self.watch {
            let status = watch.status();
            answer["problems"] = json!(status.problems);
            answer["warnings"] = json!(status.warnings);
        }
        Ok(answer)
    }
}

fn unreadable(error: &IdentityError) -> AwsError {
    tracing::error!(error = error as &dyn std::error::Error, "the policy files cannot be read");
    AwsError::server()
}

/// Every finding in one message, a line each, as `berth policy check` prints them.
fn invalid(findings: &[FileFinding]) -> AwsError {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    AwsError::client("InvalidPolicyFilesException", lines.join("\n"))
}

fn not_revoked(error: &IdentityError) -> AwsError {
    tracing::error!(error = error as &dyn std::error::Error, "sessions were not revoked");
    AwsError::server()
}
