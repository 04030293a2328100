-- Where the copies of the content lie. A removed replica keeps its row, so that no id is given twice.
CREATE TABLE replicas (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    location TEXT,
    state TEXT NOT NULL,
    -- Up to which file id repairs of a new replica are queued; NULL when all are.
    backfill_after BLOB,
    added_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX replicas_by_location ON replicas (location);

-- The walk that scrub and repair make goes by object.
CREATE UNIQUE INDEX blob_keys_by_file ON blob_keys (file_id);
CREATE INDEX uploads_by_file ON uploads (file_id);

-- The queue of repairs: when each is tried next, and what stopped it last.
ALTER TABLE repairs ADD COLUMN attempts BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repairs ADD COLUMN due_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repairs ADD COLUMN problem TEXT NOT NULL DEFAULT '';
CREATE INDEX repairs_by_due ON repairs (replica, due_at, file_id);

-- The one walk over all content: where it stands and what it found. One row, made by the first walk.
CREATE TABLE scrubs (
    id BIGINT NOT NULL PRIMARY KEY,
    walk BIGINT NOT NULL,
    state TEXT NOT NULL,
    -- Objects up to this one are done.
    position BLOB NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    objects BIGINT NOT NULL,
    copies BIGINT NOT NULL,
    copy_bytes BIGINT NOT NULL,
    damaged BIGINT NOT NULL,
    missing BIGINT NOT NULL,
    unknown BIGINT NOT NULL,
    unchecked BIGINT NOT NULL,
    lease_until BIGINT NOT NULL
);

-- Copies that are not as they should be: damaged, missing, or objects that no row names.
CREATE TABLE findings (
    file_id BLOB NOT NULL,
    replica TEXT NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    size BIGINT NOT NULL,
    found_at BIGINT NOT NULL,
    repaired_at BIGINT,
    PRIMARY KEY (file_id, replica)
);
CREATE INDEX findings_by_kind ON findings (kind, file_id, replica);

-- Every epoch of every key domain: active, retiring (still wrapping some rows), destroying, destroyed.
CREATE TABLE key_secrets (
    domain TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    -- Rows up to this digest are rewrapped; NULL when none is left to do.
    rewrapped_after TEXT,
    PRIMARY KEY (domain, epoch)
);
