//! Several servers on one PostgreSQL and one folder: whatever one acknowledged, all know.

mod iam;
mod installation;
mod lifecycle;
mod registry;
mod revocation;
mod scheduler;
mod starting;
