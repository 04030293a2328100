//! Use-cases over a real database and sealed content in memory, below any protocol.

mod collector;
mod healing;
mod races;
mod support;
mod uploads;
mod workers;
