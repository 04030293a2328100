//! The schema. Append only: a released migration is never edited.

use registry_sql::Migration;

pub(crate) const NAMESPACE: &str = "identity";

pub(crate) static MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "principals, policies, credentials", sql: PRINCIPALS },
    Migration { version: 2, name: "chains of the audit log", sql: AUDIT },
    Migration { version: 3, name: "policy versions, instance profiles, last use of keys", sql: VERSIONS },
    Migration { version: 4, name: "OIDC providers", sql: PROVIDERS },
    Migration { version: 5, name: "last use of roles", sql: ROLE_USES },
];

const PRINCIPALS: &str = "
CREATE TABLE identity_account (
    id BIGINT PRIMARY KEY,
    account_id TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    bootstrap_mark BLOB NOT NULL
);
CREATE TABLE identity_security (
    id BIGINT PRIMARY KEY,
    generation BIGINT NOT NULL
);
CREATE TABLE identity_users (
    uid TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    boundary TEXT,
    tags TEXT NOT NULL,
    owner TEXT NOT NULL
);
CREATE TABLE identity_groups (
    uid TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    owner TEXT NOT NULL
);
CREATE TABLE identity_memberships (
    user_uid TEXT NOT NULL,
    group_uid TEXT NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (user_uid, group_uid)
);
CREATE INDEX identity_memberships_by_group ON identity_memberships (group_uid);
CREATE TABLE identity_roles (
    uid TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    description TEXT NOT NULL,
    trust_policy TEXT NOT NULL,
    max_session_s BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    boundary TEXT,
    tags TEXT NOT NULL,
    owner TEXT NOT NULL
);
CREATE TABLE identity_access_keys (
    access_key_id TEXT PRIMARY KEY,
    user_uid TEXT NOT NULL,
    active BIGINT NOT NULL,
    secret BLOB NOT NULL,
    row_version BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    owner TEXT NOT NULL
);
CREATE INDEX identity_access_keys_by_user ON identity_access_keys (user_uid);
CREATE TABLE identity_managed_policies (
    arn TEXT PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    document TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    owner TEXT NOT NULL
);
CREATE TABLE identity_inline_policies (
    principal_uid TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (principal_uid, name)
);
CREATE TABLE identity_attachments (
    principal_uid TEXT NOT NULL,
    policy_arn TEXT NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (principal_uid, policy_arn)
);
CREATE INDEX identity_attachments_by_policy ON identity_attachments (policy_arn);
CREATE TABLE identity_resource_policies (
    resource TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (resource, name)
);
CREATE TABLE identity_file_generations (
    generation BIGINT PRIMARY KEY,
    published_ms BIGINT NOT NULL,
    published_by TEXT NOT NULL,
    content_sha256 TEXT NOT NULL,
    files BLOB NOT NULL
);
CREATE TABLE identity_refresh_tokens (
    token_sha256 BLOB PRIMARY KEY,
    family TEXT NOT NULL,
    access_key_id TEXT NOT NULL,
    chain TEXT NOT NULL,
    used BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX identity_refresh_tokens_by_family ON identity_refresh_tokens (family);
CREATE INDEX identity_refresh_tokens_by_expiry ON identity_refresh_tokens (expires_ms);
CREATE TABLE identity_revoked_sessions (
    session_uid TEXT PRIMARY KEY,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX identity_revoked_sessions_by_expiry ON identity_revoked_sessions (expires_ms);
CREATE TABLE identity_token_keys (
    id BIGINT PRIMARY KEY,
    created_ms BIGINT NOT NULL,
    secret BLOB NOT NULL
);
";

const AUDIT: &str = "
CREATE TABLE identity_audit_chains (
    chain TEXT PRIMARY KEY,
    number BIGINT NOT NULL,
    checkpoint TEXT NOT NULL,
    file_offset BIGINT NOT NULL,
    keys BLOB NOT NULL
);
CREATE TABLE identity_audit_anchors (
    chain TEXT NOT NULL,
    number BIGINT NOT NULL,
    checkpoint TEXT NOT NULL,
    PRIMARY KEY (chain, number)
);
CREATE TABLE identity_audit_outbox (
    chain TEXT NOT NULL,
    number BIGINT NOT NULL,
    line TEXT NOT NULL,
    PRIMARY KEY (chain, number)
);
";

const VERSIONS: &str = "
ALTER TABLE identity_managed_policies ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE identity_managed_policies ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
ALTER TABLE identity_managed_policies ADD COLUMN default_version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE identity_managed_policies ADD COLUMN last_version BIGINT NOT NULL DEFAULT 1;
CREATE TABLE identity_policy_versions (
    policy_uid TEXT NOT NULL,
    version BIGINT NOT NULL,
    document TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (policy_uid, version)
);
ALTER TABLE identity_access_keys ADD COLUMN last_used_ms BIGINT;
ALTER TABLE identity_access_keys ADD COLUMN last_used_service TEXT;
CREATE TABLE identity_instance_profiles (
    uid TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    role_uid TEXT,
    tags TEXT NOT NULL
);
CREATE INDEX identity_instance_profiles_by_role ON identity_instance_profiles (role_uid);
CREATE INDEX identity_users_by_boundary ON identity_users (boundary);
CREATE INDEX identity_roles_by_boundary ON identity_roles (boundary);
";

const PROVIDERS: &str = "
CREATE TABLE identity_oidc_providers (
    name TEXT PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    client_ids TEXT NOT NULL,
    thumbprints TEXT NOT NULL,
    tags TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    owner TEXT NOT NULL
);
";

const ROLE_USES: &str = "
ALTER TABLE identity_roles ADD COLUMN last_used_ms BIGINT;
";
