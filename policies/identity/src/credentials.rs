//! Credentials as they leave Berth: shown once to whoever asked, never logged.

use registry_runtime::SecretString;

/// A long-lived access key of a user.
#[derive(Clone, Debug)]
pub struct AccessKey {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
}

/// What STS hands out: an access key that works only with its session token, until it expires.
#[derive(Clone, Debug)]
pub struct TemporaryCredentials {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    pub session_token: SecretString,
    /// Milliseconds since the Unix epoch.
    pub expires_ms: i64,
    /// `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    pub assumed_role_arn: String,
    /// `AROA…:SESSION`.
    pub assumed_role_id: String,
}

/// The password of the Docker user `AWS`, as `ecr:GetAuthorizationToken` returns it.
#[derive(Clone, Debug)]
pub struct EcrToken {
    pub token: SecretString,
    /// Milliseconds since the Unix epoch: 12 hours ahead, or when the credential behind it ends.
    pub expires_ms: i64,
}

/// A Docker bearer token of `/token`.
#[derive(Clone, Debug)]
pub struct BearerToken {
    pub token: SecretString,
    /// Milliseconds since the Unix epoch.
    pub issued_ms: i64,
    /// Milliseconds since the Unix epoch: five minutes ahead, or when the credential behind it ends.
    pub expires_ms: i64,
}

/// A refresh token: 256 random bits, good for one exchange.
#[derive(Clone, Debug)]
pub struct RefreshToken {
    pub token: SecretString,
    /// Milliseconds since the Unix epoch.
    pub expires_ms: i64,
}
