-- What a push writes lies in the tree of its primary key, rather than in a tree of rows and one of keys beside it. Each
-- table is filled in the order of its key, so that this goes from page to page.

ALTER TABLE tags RENAME TO old_tags;
CREATE TABLE tags (
    repository_uid TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- When a tag that came from an upstream was last compared with it; one that was pushed here has none.
    upstream_checked_at BIGINT,
    PRIMARY KEY (repository_uid, tag)
) WITHOUT ROWID;
INSERT INTO tags (repository_uid, tag, digest, created_at, updated_at, upstream_checked_at)
    SELECT repository_uid, tag, digest, created_at, updated_at, upstream_checked_at
    FROM old_tags ORDER BY repository_uid, tag;
DROP TABLE old_tags;
CREATE INDEX tags_by_digest ON tags (repository_uid, digest, tag);

ALTER TABLE manifests RENAME TO old_manifests;
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
    -- To the hour.
    last_pulled_at BIGINT,
    -- When a task or a deployment last asked what to run, to the minute: not to be expired for a while.
    resolved_at BIGINT,
    PRIMARY KEY (repository_uid, digest)
) WITHOUT ROWID;
INSERT INTO manifests (repository_uid, digest, media_type, size, artifact_type, config_media_type, subject, image_size,
        pushed_at, last_pulled_at, resolved_at)
    SELECT repository_uid, digest, media_type, size, artifact_type, config_media_type, subject, image_size,
        pushed_at, last_pulled_at, resolved_at
    FROM old_manifests ORDER BY repository_uid, digest;
DROP TABLE old_manifests;
CREATE INDEX manifests_by_digest ON manifests (digest, repository_uid);

ALTER TABLE manifest_contents RENAME TO old_manifest_contents;
CREATE TABLE manifest_contents (
    repository_uid TEXT NOT NULL,
    manifest TEXT NOT NULL,
    position BIGINT NOT NULL,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    PRIMARY KEY (repository_uid, manifest, position)
) WITHOUT ROWID;
INSERT INTO manifest_contents (repository_uid, manifest, position, kind, digest, media_type, size)
    SELECT repository_uid, manifest, position, kind, digest, media_type, size
    FROM old_manifest_contents ORDER BY repository_uid, manifest, position;
DROP TABLE old_manifest_contents;
-- Who names a blob, in a repository and anywhere.
CREATE INDEX manifest_contents_by_digest ON manifest_contents (digest, repository_uid, kind, manifest);

ALTER TABLE blob_links RENAME TO old_blob_links;
CREATE TABLE blob_links (
    repository_uid TEXT NOT NULL,
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    linked_at BIGINT NOT NULL,
    noted_at BIGINT NOT NULL,
    -- Links that perhaps no manifest of their repository needs: the collector looks at them when their grace is over.
    is_candidate BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (repository_uid, digest)
) WITHOUT ROWID;
INSERT INTO blob_links (repository_uid, digest, size, linked_at, noted_at, is_candidate)
    SELECT repository_uid, digest, size, linked_at, noted_at, is_candidate
    FROM old_blob_links ORDER BY repository_uid, digest;
DROP TABLE old_blob_links;
CREATE INDEX blob_links_by_digest ON blob_links (digest, repository_uid);
CREATE INDEX blob_links_by_candidacy ON blob_links (noted_at, repository_uid, digest) WHERE is_candidate = 1;

-- Whoever goes over all keys goes in the order of their digests, which is from page to page now.
ALTER TABLE blob_keys RENAME TO old_blob_keys;
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
) WITHOUT ROWID;
INSERT INTO blob_keys (domain, digest, file_id, dek_id, total_len, object_len, footer_sha256, epoch, wrap_nonce,
        wrapped, created_at)
    SELECT domain, digest, file_id, dek_id, total_len, object_len, footer_sha256, epoch, wrap_nonce, wrapped, created_at
    FROM old_blob_keys ORDER BY domain, digest;
DROP TABLE old_blob_keys;
CREATE UNIQUE INDEX blob_keys_by_file ON blob_keys (file_id);

ALTER TABLE reserved_objects RENAME TO old_reserved_objects;
CREATE TABLE reserved_objects (
    file_id BLOB NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
) WITHOUT ROWID;
INSERT INTO reserved_objects (file_id, expires_at)
    SELECT file_id, expires_at FROM old_reserved_objects ORDER BY file_id;
DROP TABLE old_reserved_objects;

ALTER TABLE garbage_objects RENAME TO old_garbage_objects;
CREATE TABLE garbage_objects (
    file_id BLOB NOT NULL PRIMARY KEY,
    condemned_at BIGINT NOT NULL
) WITHOUT ROWID;
INSERT INTO garbage_objects (file_id, condemned_at)
    SELECT file_id, condemned_at FROM old_garbage_objects ORDER BY file_id;
DROP TABLE old_garbage_objects;

ALTER TABLE unnamed_digests RENAME TO old_unnamed_digests;
CREATE TABLE unnamed_digests (
    digest TEXT NOT NULL PRIMARY KEY,
    noted_at BIGINT NOT NULL
) WITHOUT ROWID;
INSERT INTO unnamed_digests (digest, noted_at)
    SELECT digest, noted_at FROM old_unnamed_digests ORDER BY digest;
DROP TABLE old_unnamed_digests;
CREATE INDEX unnamed_digests_by_age ON unnamed_digests (noted_at, digest);

ALTER TABLE retired_manifests RENAME TO old_retired_manifests;
CREATE TABLE retired_manifests (
    repository_uid TEXT NOT NULL,
    digest TEXT NOT NULL,
    retired_at BIGINT NOT NULL,
    PRIMARY KEY (repository_uid, digest)
) WITHOUT ROWID;
INSERT INTO retired_manifests (repository_uid, digest, retired_at)
    SELECT repository_uid, digest, retired_at FROM old_retired_manifests ORDER BY repository_uid, digest;
DROP TABLE old_retired_manifests;
CREATE INDEX retired_manifests_by_digest ON retired_manifests (digest, repository_uid);
