-- Links that perhaps no manifest of their repository needs: the collector looks at them when their grace is over.
ALTER TABLE blob_links ADD COLUMN is_candidate BIGINT NOT NULL DEFAULT 0;
CREATE INDEX blob_links_by_candidacy ON blob_links (noted_at, repository_uid, digest) WHERE is_candidate = 1;

-- Digests that perhaps nothing names any more: the collector looks at their keys.
CREATE TABLE unnamed_digests (
    digest TEXT NOT NULL PRIMARY KEY,
    noted_at BIGINT NOT NULL
);
CREATE INDEX unnamed_digests_by_age ON unnamed_digests (noted_at, digest);

-- Where the walks stand that find candidates which nobody noted, and when they go on.
CREATE TABLE candidate_walks (
    name TEXT NOT NULL PRIMARY KEY,
    container TEXT NOT NULL,
    digest TEXT NOT NULL,
    due_at BIGINT NOT NULL
);
