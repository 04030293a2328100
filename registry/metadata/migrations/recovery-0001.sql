-- One row while what was restored is not yet adopted: until then nothing is deleted and no key destroyed.
CREATE TABLE adoption (
    id BIGINT NOT NULL PRIMARY KEY,
    restored_at BIGINT NOT NULL,
    source TEXT NOT NULL
);
