//! What a manifest says, checked before anything is stored.
//!
//! Bytes are kept exactly as pushed; what is read out of them here is all that the rest of the registry
//! ever knows of a manifest, so that listing never parses one. No I/O.

mod document;
mod strict_json;

pub(crate) use document::{Annotations, ParsedManifest, parse};
