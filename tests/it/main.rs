//! The real binary against real clients: docker, podman, buildah, skopeo, the AWS CLI and raw HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, with the place it happened"
)]

mod address;
mod at_rest;
mod attacks;
mod audit;
mod backup;
mod bad_input;
mod bucket;
mod clients;
mod conformance;
mod ecr;
mod ecs;
mod fault_points;
mod fleet;
mod gate;
mod iam;
mod identities;
mod issuer;
mod joining;
mod layering;
mod limits;
mod observe;
mod oci;
mod policies;
mod policy_files;
mod power_cuts;
mod pull_through;
mod quotas;
mod release;
mod scale;
mod scale_out;
mod server;
mod shelf;
mod signed;
mod store;
mod tls;
mod transport;
