//! AssumeRole: what must hold of the request, what the gate is asked, and the session that comes of it.

use std::sync::Arc;

use policies::{Policy, PolicyKind};
use registry_aws::AwsError;
use registry_types::Arn;
use thiserror::Error;

use super::{NewSession, TooLarge};
use crate::authorize::Denied;
use crate::caller::{Caller, CallerKind};
use crate::check::Check;
use crate::context::RequestContext;
use crate::credentials::TemporaryCredentials;
use crate::directory::Directory;
use crate::error::IdentityError;
use crate::identity::Identity;

/// An AssumeRole request.
#[derive(Clone, Debug)]
pub struct AssumeRole {
    pub role_arn: Arn,
    /// 2 to 64 of letters, digits and `_+=,.@-`.
    pub session_name: String,
    /// 900 to the role's maximum, in seconds; an hour when absent.
    pub duration_s: Option<i64>,
    /// A session policy.
    pub policy: Option<String>,
    /// Managed session policies, at most ten.
    pub policy_arns: Vec<String>,
    pub external_id: Option<String>,
    pub tags: Vec<(String, String)>,
    pub transitive_tag_keys: Vec<String>,
    pub source_identity: Option<String>,
}

/// Why a role was not assumed.
#[derive(Debug, Error)]
pub enum AssumeRoleError {
    #[error("{0}")]
    Denied(Denied),
    /// The request itself is not acceptable.
    #[error("{0}")]
    Refused(AwsError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

const ASSUME_ROLE: &str = "sts:AssumeRole";
pub(super) const ASSUME_ROLE_WITH_WEB_IDENTITY: &str = "sts:AssumeRoleWithWebIdentity";
const DEFAULT_DURATION_S: i64 = 3600;
const SHORTEST_S: i64 = 900;
const LONGEST_S: i64 = 12 * 3600;
/// A session of a role gets sessions of other roles for an hour at most.
const LONGEST_CHAINED_S: i64 = 3600;
const LARGEST_POLICY: usize = 2048;
const MOST_POLICY_ARNS: usize = 10;
const MOST_TAGS: usize = 50;

impl Identity {
    /// Assumes a role for the caller, if its trust policy and the caller's policies allow it.
    ///
    /// # Errors
    /// AWS's own: see [`AssumeRoleError`].
    pub async fn assume_role(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        request: &AssumeRole,
    ) -> Result<TemporaryCredentials, AssumeRoleError> {
        for check in self.assume_role_checks(caller, request) {
            self.authorize(ctx, caller, "AssumeRole", &check).map_err(AssumeRoleError::Denied)?;
        }
        self.session_of_role(ctx, caller, request)
    }

    /// What must be allowed before a role is assumed. A role that does not exist is asked about as well;
    /// it is refused afterwards, in the same words.
    pub(crate) fn assume_role_checks(&self, caller: &Caller, request: &AssumeRole) -> Vec<Check> {
        Self::checks_to_assume(&self.inner().directory.load(), ASSUME_ROLE, caller, request)
    }

    /// `action`, and what the request's tags and its source identity need besides, with the claims of the caller's token.
    pub(super) fn checks_to_assume(
        directory: &Directory,
        action: &'static str,
        caller: &Caller,
        request: &AssumeRole,
    ) -> Vec<Check> {
        let role = directory.role_by_arn(request.role_arn.as_str());
        let trust = role.and_then(|role| role.trust.clone());
        let actions = [
            (action, true),
            ("sts:TagSession", !request.tags.is_empty() || !request.transitive_tag_keys.is_empty()),
            ("sts:SetSourceIdentity", request.source_identity.is_some()),
        ];
        let needed = actions.into_iter().filter(|(_, needed)| *needed);
        needed
            .map(|(action, _)| {
                let mut check = Check::on(action, request.role_arn.clone())
                    .with("sts:RoleSessionName", &request.session_name)
                    .with_resource_policy(trust.clone());
                if let Some(external_id) = &request.external_id {
                    check = check.with("sts:ExternalId", external_id);
                }
                if let Some(source_identity) = &request.source_identity {
                    check = check.with("sts:SourceIdentity", source_identity);
                }
                for (key, value) in &request.tags {
                    check = check.with(format!("aws:RequestTag/{key}"), value);
                }
                for (key, value) in role.into_iter().flat_map(|role| &role.tags) {
                    check = check
                        .with(format!("aws:ResourceTag/{key}"), value)
                        .with(format!("iam:ResourceTag/{key}"), value);
                }
                if let Some(identity) = &caller.web_identity {
                    check.context.extend(identity.claims.iter().cloned());
                }
                let keys = request.tags.iter().map(|(key, _)| key.clone()).collect();
                check
                    .with_many("aws:TagKeys", keys)
                    .with_many("sts:TransitiveTagKeys", request.transitive_tag_keys.clone())
            })
            .collect()
    }

    /// The session, once the gate has said yes. It is one of the role as it stands by now, so that the gate has to say
    /// the same of that: a role that was made anew since, or trusts others, is not the one that was asked about.
    pub(crate) fn session_of_role(
        &self,
        ctx: &RequestContext,
        caller: &Caller,
        request: &AssumeRole,
    ) -> Result<TemporaryCredentials, AssumeRoleError> {
        request.validate().map_err(AssumeRoleError::Refused)?;
        let directory = self.directory().ok_or(AssumeRoleError::Identity(IdentityError::Stale))?;
        let (action, operation) = match &caller.web_identity {
            Some(_) => (ASSUME_ROLE_WITH_WEB_IDENTITY, "AssumeRoleWithWebIdentity"),
            None => (ASSUME_ROLE, "AssumeRole"),
        };
        for check in Self::checks_to_assume(&directory, action, caller, request) {
            self.decide_again(&directory, ctx, caller, operation, &check).map_err(AssumeRoleError::Denied)?;
        }
        let Some(role) = directory.role_by_arn(request.role_arn.as_str()) else {
            return Err(AssumeRoleError::Denied(Denied::by_trust(caller.arn(), request.role_arn.as_str())));
        };
        let parent = caller.principal.session.as_ref();
        let duration_s = request.duration_s.unwrap_or(DEFAULT_DURATION_S);
        if caller.kind() == CallerKind::RoleSession && duration_s > LONGEST_CHAINED_S {
            return Err(refused(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role \
                 chaining",
            ));
        }
        if duration_s > role.max_session_s {
            return Err(refused(
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            ));
        }
        if let Some(missing) = request.policy_arns.iter().find(|arn| !directory.has_managed(arn)) {
            return Err(refused(format!("PolicyArn {missing} does not exist or is not attachable.")));
        }
        let (tags, transitive_tag_keys) = request.session_tags(parent.map(AsRef::as_ref))?;
        let new = NewSession {
            name: request.session_name.clone(),
            parent_chain: caller.principal.chain.clone(),
            policy: request.policy.clone(),
            policy_arns: request.policy_arns.clone(),
            tags,
            transitive_tag_keys,
            // Once set, it stays through every further role.
            source_identity: parent
                .and_then(|parent| parent.source_identity.clone())
                .or_else(|| request.source_identity.clone()),
            federated_provider: match &caller.web_identity {
                Some(identity) => Some(Arc::clone(&identity.provider.arn)),
                None => parent.and_then(|parent| parent.federated_provider.clone()),
            },
            expires_ms: self.now_ms() + duration_s * 1000,
            task: None,
        };
        match self.make_session(&directory, role, new)? {
            Ok(opened) => opened.credentials().ok_or(AssumeRoleError::Identity(IdentityError::Stale)),
            Err(TooLarge { percent }) => Err(AssumeRoleError::Refused(AwsError::client(
                "PackedPolicyTooLarge",
                format!(
                    "Packed policy consumes {percent}% of allotted space, please use smaller policy or tags."
                ),
            ))),
        }
    }
}

impl AssumeRole {
    /// A request with nothing but what it needs.
    pub fn new(role_arn: Arn, session_name: impl Into<String>) -> Self {
        Self {
            role_arn,
            session_name: session_name.into(),
            duration_s: None,
            policy: None,
            policy_arns: Vec::new(),
            external_id: None,
            tags: Vec::new(),
            transitive_tag_keys: Vec::new(),
            source_identity: None,
        }
    }

    fn validate(&self) -> Result<(), AwsError> {
        let is_word =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte));
        let name = &self.session_name;
        if !(2..=64).contains(&name.len()) || !is_word(name) {
            return Err(constraint(name, "roleSessionName", r"[\w+=,.@-]* with length between 2 and 64"));
        }
        if let Some(duration_s) = self.duration_s.filter(|s| !(SHORTEST_S..=LONGEST_S).contains(s)) {
            return Err(constraint(&duration_s.to_string(), "durationSeconds", "between 900 and 43200"));
        }
        if let Some(id) = self.external_id.as_ref().filter(|id| !(2..=1224).contains(&id.len())) {
            return Err(constraint(id, "externalId", "length between 2 and 1224"));
        }
        if let Some(identity) =
            self.source_identity.as_ref().filter(|text| !(2..=64).contains(&text.len()) || !is_word(text))
        {
            return Err(constraint(identity, "sourceIdentity", r"[\w+=,.@-]* with length between 2 and 64"));
        }
        if self.policy_arns.len() > MOST_POLICY_ARNS || self.tags.len() > MOST_TAGS {
            return Err(validation("At most 10 policy ARNs and 50 tags can be passed."));
        }
        let is_passed = |key: &String| self.tags.iter().any(|(name, _)| name.eq_ignore_ascii_case(key));
        if !self.transitive_tag_keys.iter().all(is_passed) {
            return Err(AwsError::client(
                "InvalidParameterValue",
                "The specified transitive tag key must be included in the requested tags.",
            ));
        }
        for (index, (key, value)) in self.tags.iter().enumerate() {
            let characters = (key.chars().count(), value.chars().count());
            if !(1..=128).contains(&characters.0) || characters.1 > 256 || key.starts_with("aws:") {
                return Err(constraint(key, "tags", "keys of 1 to 128 characters, values of up to 256"));
            }
            let repeated =
                self.tags[..index].iter().any(|(other, _)| other.to_lowercase() == key.to_lowercase());
            if repeated {
                return Err(AwsError::client(
                    "InvalidParameterValue",
                    "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
                ));
            }
        }
        let Some(policy) = &self.policy else { return Ok(()) };
        if policy.chars().count() > LARGEST_POLICY {
            return Err(constraint("…", "policy", "length less than or equal to 2048"));
        }
        match Policy::parse(policy, PolicyKind::Session) {
            Ok(_) => Ok(()),
            Err(findings) => {
                let first = findings.first().map(ToString::to_string).unwrap_or_default();
                Err(AwsError::client("MalformedPolicyDocument", format!("The policy is not valid: {first}")))
            }
        }
    }

    /// The tags of the session: those passed, and the transitive ones of the session before.
    #[allow(clippy::type_complexity, reason = "tags and their transitive keys, used once")]
    fn session_tags(
        &self,
        parent: Option<&crate::session::Session>,
    ) -> Result<(Vec<(String, String)>, Vec<String>), AssumeRoleError> {
        let (mut tags, mut transitive) = (self.tags.clone(), self.transitive_tag_keys.clone());
        let Some(parent) = parent else { return Ok((tags, transitive)) };
        for key in &parent.transitive_tag_keys {
            let Some((_, value)) = parent.tags.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)) else {
                continue;
            };
            if self.tags.iter().any(|(name, _)| name.eq_ignore_ascii_case(key)) {
                return Err(AssumeRoleError::Refused(AwsError::client(
                    "InvalidParameterValue",
                    format!(
                        "One of the specified transitive tag keys can't be set because it conflicts with a \
                         transitive tag key from the calling session: {key}"
                    ),
                )));
            }
            tags.push((key.clone(), value.clone()));
            transitive.push(key.clone());
        }
        Ok((tags, transitive))
    }
}

fn validation(message: impl Into<String>) -> AwsError {
    AwsError::client("ValidationError", message)
}

fn constraint(value: &str, member: &str, rule: &str) -> AwsError {
    validation(format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {rule}"
    ))
}

fn refused(message: impl Into<String>) -> AssumeRoleError {
    AssumeRoleError::Refused(validation(message))
}

impl From<AssumeRoleError> for AwsError {
    fn from(error: AssumeRoleError) -> Self {
        match error {
            AssumeRoleError::Denied(denied) => denied.to_aws(),
            AssumeRoleError::Refused(refused) => refused,
            AssumeRoleError::Identity(IdentityError::Stale) => crate::error::unavailable(),
            AssumeRoleError::Identity(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a role could not be assumed");
                AwsError::server()
            }
        }
    }
}
