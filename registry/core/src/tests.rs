//! Use-cases over a real database and sealed content in memory, below any protocol.

mod collector;
mod healing;
mod images;
mod keys;
mod lifecycle;
mod manifests;
mod pull_through;
mod races;
mod simulation;
mod support;
mod upkeep;
mod uploads;
mod walks;
mod workers;
