-- Who leads, and where it is reached. `beat` grows while it lives; `commits` grows with every change of the state.
ALTER TABLE scheduler_leader ADD COLUMN holder TEXT NOT NULL DEFAULT '';
ALTER TABLE scheduler_leader ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE scheduler_leader ADD COLUMN beat BIGINT NOT NULL DEFAULT 0;
ALTER TABLE scheduler_leader ADD COLUMN commits BIGINT NOT NULL DEFAULT 0;
