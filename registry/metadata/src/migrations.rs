//! The registry's schema, append-only: a released migration is never edited.

use registry_sql::Migration;

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "repositories, content and uploads",
        sql: include_str!("../migrations/0001.sql"),
    },
    Migration { version: 2, name: "collection of blobs", sql: include_str!("../migrations/0002.sql") },
    Migration {
        version: 3,
        name: "replicas, repair, scrub and key epochs",
        sql: include_str!("../migrations/0003.sql"),
    },
    Migration {
        version: 4,
        name: "usage, quotas, settings and pull times",
        sql: include_str!("../migrations/0004.sql"),
    },
    Migration {
        version: 5,
        name: "lifecycle policies and pins",
        sql: include_str!("../migrations/0005.sql"),
    },
    Migration { version: 6, name: "pull-through rules", sql: include_str!("../migrations/0006.sql") },
    Migration { version: 7, name: "removals", sql: include_str!("../migrations/0007.sql") },
    Migration {
        version: 8,
        name: "candidates of the collector",
        sql: include_str!("../migrations/0008.sql"),
    },
    Migration { version: 9, name: "encryption types", sql: include_str!("../migrations/0009.sql") },
    Migration { version: 10, name: "keys by age", sql: include_str!("../migrations/0010.sql") },
    Migration { version: 11, name: "reserved objects", sql: include_str!("../migrations/0011.sql") },
    Migration {
        version: 12,
        name: "rows in the tree of their key",
        sql: include_str!("../migrations/0012.sql"),
    },
];

/// What restores leave behind; a namespace of its own.
pub(crate) const RECOVERY: &[Migration] =
    &[Migration { version: 1, name: "adoption", sql: include_str!("../migrations/recovery-0001.sql") }];
