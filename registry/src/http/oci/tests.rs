//! The protocol as clients meet it, over a real database, a real gate and sealed content in memory.

mod access;
mod bad_input;
mod blobs;
mod listings;
mod manifests;
mod referrers;
mod support;
mod uploads;
