-- Objects that went while a replica was away, which deletes its copies when it is back.
CREATE TABLE removals (
    replica TEXT NOT NULL,
    file_id BLOB NOT NULL,
    queued_at BIGINT NOT NULL,
    PRIMARY KEY (replica, file_id)
);
CREATE INDEX removals_by_file ON removals (file_id);
