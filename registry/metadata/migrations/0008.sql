ALTER TABLE blob_links ADD COLUMN is_candidate BIGINT NOT NULL DEFAULT 0;
CREATE INDEX blob_links_candidates ON blob_links (noted_at, repository_uid, digest) WHERE is_candidate = 1;
CREATE TABLE unnamed_digests (
    digest TEXT NOT NULL PRIMARY KEY,
    noted_at BIGINT NOT NULL
);
CREATE INDEX unnamed_digests_by_time ON unnamed_digests (noted_at, digest);
CREATE TABLE candidate_walks (
    name TEXT NOT NULL PRIMARY KEY,
    container TEXT NOT NULL,
    digest TEXT NOT NULL,
    due_at BIGINT NOT NULL
);
