//! Replication over stores in memory that fail, hang and lie.
