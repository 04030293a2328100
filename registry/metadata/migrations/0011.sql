-- Objects that a server may be about to write, registered many at a time: few rows, however much is stored.
CREATE TABLE reserved_objects (
    file_id BLOB NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
