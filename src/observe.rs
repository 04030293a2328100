//! What is seen of the requests that pass the front door: a line for each, and numbers about all of them.
//!
//! The rooms leave in each answer what they served, and to whom (`Served`). Invariant: nothing that a client sends
//! becomes a label or a field, but the address it comes from; so neither secrets nor endless series come here.

mod access;
mod exposition;
mod passage;
mod requests;
mod samples;

pub(crate) use access::{AccessLog, AccessLogSetting};
pub(crate) use exposition::{Exposition, guarded, open};
pub(crate) use passage::{Observer, Passage, of_path};
pub(crate) use requests::Requests;
pub(crate) use samples::Samples;
