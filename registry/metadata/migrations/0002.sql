-- Keys of blobs that nothing named when the collector looked; it looks again before anything goes.
CREATE TABLE condemned_keys (
    domain TEXT NOT NULL,
    digest TEXT NOT NULL,
    file_id BLOB NOT NULL,
    condemned_at BIGINT NOT NULL,
    PRIMARY KEY (domain, digest)
);

-- Whether any manifest, in any repository, names a blob.
CREATE INDEX manifest_contents_by_content ON manifest_contents (digest);
