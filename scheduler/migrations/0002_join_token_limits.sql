-- How often a token may be used and by whom it was made, the bounds of what its hosts may claim, and the machine
-- by which a host that lost its key is known again.

ALTER TABLE join_tokens ADD COLUMN uses BIGINT NOT NULL DEFAULT 1;
ALTER TABLE join_tokens ADD COLUMN used BIGINT NOT NULL DEFAULT 0;
ALTER TABLE join_tokens ADD COLUMN max_cpu BIGINT;
ALTER TABLE join_tokens ADD COLUMN max_memory BIGINT;
ALTER TABLE join_tokens ADD COLUMN instance TEXT;
ALTER TABLE join_tokens ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE join_tokens ADD COLUMN created_by TEXT NOT NULL DEFAULT '';
ALTER TABLE join_tokens ADD COLUMN revoked_at BIGINT;
UPDATE join_tokens SET used = 1 WHERE used_at IS NOT NULL;

ALTER TABLE enrolments ADD COLUMN max_cpu BIGINT;
ALTER TABLE enrolments ADD COLUMN max_memory BIGINT;
ALTER TABLE enrolments ADD COLUMN machine TEXT;
CREATE INDEX enrolments_by_machine ON enrolments (machine);

-- Attributes that a token has fixed once: in their cluster no agent is believed about them.
CREATE TABLE operator_attributes (
    cluster TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (cluster, name)
);
