CREATE TABLE repositories (
    uid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    domain TEXT NOT NULL,
    tag_mutability TEXT NOT NULL,
    mutability_filters TEXT NOT NULL,
    policy TEXT,
    policy_version BIGINT NOT NULL,
    resource_tags TEXT NOT NULL,
    scan_on_push BIGINT NOT NULL
);

-- Uids whose rows are still to be removed, in batches, by a worker.
CREATE TABLE deleted_repositories (
    uid TEXT NOT NULL PRIMARY KEY,
    deleted_at BIGINT NOT NULL
);

CREATE TABLE uploads (
    uid TEXT NOT NULL PRIMARY KEY,
    repository_uid TEXT NOT NULL,
    domain TEXT NOT NULL,
    principal TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    lease BIGINT NOT NULL,
    lease_expires_at BIGINT NOT NULL,
    committed_offset BIGINT NOT NULL,
    file_id BLOB,
    sealed_state BLOB,
    sealed_epoch BIGINT NOT NULL,
    sealed_lease BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX uploads_by_age ON uploads (updated_at, uid);

-- The epoch that new data keys of a domain are wrapped under.
CREATE TABLE key_epochs (
    domain TEXT NOT NULL PRIMARY KEY,
    active BIGINT NOT NULL
);

-- (domain, digest) -> the object that is the blob, and its wrapped key (BRF1 key row).
CREATE TABLE blob_keys (
    domain TEXT NOT NULL,
    digest TEXT NOT NULL,
    file_id BLOB NOT NULL,
    dek_id BLOB NOT NULL,
    total_len BIGINT NOT NULL,
    object_len BIGINT NOT NULL,
    footer_sha256 BLOB NOT NULL,
    epoch BIGINT NOT NULL,
    wrap_nonce BLOB NOT NULL,
    wrapped BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (domain, digest)
);

-- Visibility of blobs. Manifests are visible through their own rows.
CREATE TABLE blob_links (
    repository_uid TEXT NOT NULL,
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    linked_at BIGINT NOT NULL,
    noted_at BIGINT NOT NULL,
    PRIMARY KEY (repository_uid, digest)
);
CREATE INDEX blob_links_by_digest ON blob_links (digest, repository_uid);

CREATE TABLE manifests (
    repository_uid TEXT NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    artifact_type TEXT,
    config_media_type TEXT,
    subject TEXT,
    image_size BIGINT NOT NULL,
    pushed_at BIGINT NOT NULL,
    PRIMARY KEY (repository_uid, digest)
);
CREATE INDEX manifests_by_digest ON manifests (digest, repository_uid);

-- What a manifest names: pins content, makes nothing visible.
CREATE TABLE manifest_contents (
    repository_uid TEXT NOT NULL,
    manifest TEXT NOT NULL,
    position BIGINT NOT NULL,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    PRIMARY KEY (repository_uid, manifest, position)
);
CREATE INDEX manifest_contents_by_digest ON manifest_contents (repository_uid, digest, kind, manifest);

CREATE TABLE tags (
    repository_uid TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (repository_uid, tag)
);
CREATE INDEX tags_by_digest ON tags (repository_uid, digest, tag);

CREATE TABLE referrers (
    repository_uid TEXT NOT NULL,
    subject TEXT NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    artifact_type TEXT NOT NULL,
    annotations_len BIGINT NOT NULL,
    annotations_sealed BLOB,
    PRIMARY KEY (repository_uid, subject, digest)
);
CREATE INDEX referrers_by_type ON referrers (repository_uid, subject, artifact_type, digest);

-- Objects that no key row names any more; the store deletes them a drain period later.
CREATE TABLE garbage_objects (
    file_id BLOB NOT NULL PRIMARY KEY,
    condemned_at BIGINT NOT NULL
);

-- Replicas that lack an object which was acknowledged on a quorum of the others.
CREATE TABLE repairs (
    file_id BLOB NOT NULL,
    replica TEXT NOT NULL,
    domain TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (file_id, replica)
);
