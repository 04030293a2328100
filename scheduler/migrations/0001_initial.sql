-- Rows hold whole records as JSON beside the columns that queries need; what may hold secrets
-- (contents of definitions, overrides of tasks) is sealed.

CREATE TABLE scheduler_leader (
    id BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL
);
INSERT INTO scheduler_leader (id, epoch) VALUES (1, 0);

CREATE TABLE clusters (
    name TEXT PRIMARY KEY,
    document TEXT NOT NULL
);

CREATE TABLE container_instances (
    id TEXT PRIMARY KEY,
    cluster TEXT NOT NULL,
    principal TEXT NOT NULL,
    document TEXT NOT NULL
);

CREATE TABLE task_definitions (
    family TEXT NOT NULL,
    revision BIGINT NOT NULL,
    document TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (family, revision)
);

CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    cluster TEXT NOT NULL,
    document TEXT NOT NULL,
    overrides BLOB NOT NULL
);

CREATE TABLE services (
    cluster TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (cluster, name)
);

CREATE TABLE deployments (
    cluster TEXT NOT NULL,
    service TEXT NOT NULL,
    place BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (cluster, service, place)
);

CREATE TABLE service_events (
    id TEXT PRIMARY KEY,
    cluster TEXT NOT NULL,
    service TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    message TEXT NOT NULL
);

-- Names tasks, not messages: those are made, with credentials, when they are sent.
CREATE TABLE agent_outbox (
    instance TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    task TEXT NOT NULL,
    errand TEXT NOT NULL,
    PRIMARY KEY (instance, sequence)
);

CREATE TABLE client_tokens (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    tasks TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- A token is kept as its hash; the row stays after its one use, so that a second use is told from an unknown token.
CREATE TABLE join_tokens (
    hash TEXT PRIMARY KEY,
    cluster TEXT NOT NULL,
    zone TEXT,
    attributes TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

-- What an enrolment fixed for the principal that came out of it.
CREATE TABLE enrolments (
    principal TEXT PRIMARY KEY,
    cluster TEXT NOT NULL,
    zone TEXT,
    attributes TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
