-- What the repositories hold: bytes of blobs and manifests, and manifests. Kept with every change of either.
CREATE TABLE repository_usage (
    repository_uid TEXT NOT NULL PRIMARY KEY,
    bytes BIGINT NOT NULL,
    images BIGINT NOT NULL
);
INSERT INTO repository_usage (repository_uid, bytes, images)
    SELECT r.uid,
        COALESCE((SELECT SUM(l.size) FROM blob_links l WHERE l.repository_uid = r.uid), 0)
            + COALESCE((SELECT SUM(m.size) FROM manifests m WHERE m.repository_uid = r.uid), 0),
        (SELECT COUNT(*) FROM manifests m WHERE m.repository_uid = r.uid)
    FROM repositories r;

-- What the repositories of a prefix may hold together, and what they do; the empty prefix stands for all.
CREATE TABLE quotas (
    prefix TEXT NOT NULL PRIMARY KEY,
    max_bytes BIGINT,
    max_images BIGINT,
    bytes BIGINT NOT NULL,
    images BIGINT NOT NULL
);

-- Settings of the registry as a whole, by name; the version rises with every change.
CREATE TABLE registry_settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    version BIGINT NOT NULL
);

-- To the hour.
ALTER TABLE manifests ADD COLUMN last_pulled_at BIGINT;
