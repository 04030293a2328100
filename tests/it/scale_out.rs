//! Several servers on one PostgreSQL and one folder or bucket: whatever one acknowledged, all know.

mod iam;
mod installation;
mod lifecycle;
mod postgres;
mod registry;
mod revocation;
mod scheduler;
mod second;
mod starting;
