//! The API as a client meets it: signed requests through the gate, answers as JSON.

pub(crate) mod fixture;
mod images;
mod layers;
mod lifecycle_policies;
mod repositories;
