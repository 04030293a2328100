-- Prefixes of repositories whose images come from other registries.
CREATE TABLE pull_through_rules (
    prefix TEXT NOT NULL PRIMARY KEY,
    upstream_url TEXT NOT NULL,
    upstream_registry TEXT,
    upstream_prefix TEXT NOT NULL,
    sealed_credentials BLOB,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- When a tag that came from an upstream was last compared with it; one that was pushed here has none.
ALTER TABLE tags ADD COLUMN upstream_checked_at BIGINT;
