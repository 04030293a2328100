-- Manifests that were deleted and whose contents the collector has not let go of yet: what runs keeps them.
CREATE TABLE retired_manifests (
    repository_uid TEXT NOT NULL,
    digest TEXT NOT NULL,
    retired_at BIGINT NOT NULL,
    PRIMARY KEY (repository_uid, digest)
);
CREATE INDEX retired_manifests_by_digest ON retired_manifests (digest, repository_uid);

-- When a task or a deployment last asked what to run, to the minute: not to be expired for a while.
ALTER TABLE manifests ADD COLUMN resolved_at BIGINT;

-- Lifecycle policies: when each is applied next, and until when a server is at it.
CREATE TABLE lifecycle_policies (
    repository_uid TEXT NOT NULL PRIMARY KEY,
    text TEXT NOT NULL,
    version BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    evaluated_at BIGINT
);
CREATE INDEX lifecycle_policies_by_due ON lifecycle_policies (due_at, repository_uid);

-- What a policy would do: asked for, computed by a worker, kept for a day.
CREATE TABLE lifecycle_previews (
    repository_uid TEXT NOT NULL PRIMARY KEY,
    text TEXT NOT NULL,
    state TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    images BIGINT NOT NULL
);
CREATE INDEX lifecycle_previews_by_state ON lifecycle_previews (state, started_at, repository_uid);

CREATE TABLE lifecycle_preview_images (
    repository_uid TEXT NOT NULL,
    digest TEXT NOT NULL,
    rule_priority BIGINT NOT NULL,
    pushed_at BIGINT NOT NULL,
    tags TEXT NOT NULL,
    PRIMARY KEY (repository_uid, digest)
);
