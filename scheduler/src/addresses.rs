//! The addresses of services: which tasks take a service's connections, and who has been told.
//!
//! A service has an address by its tag `berth:listen`. What agents are told is computed from committed state alone.
//! Invariant: a task that is to stop is told so only after every agent leads nothing to it any more, or its time
//! to drain is over.

mod compose;
mod directory;
mod settings;
mod withdrawal;

pub(crate) use compose::listens;
pub(crate) use directory::{Directory, HostListening, address_event};
pub(crate) use settings::{Address, check_address, listening_port, name_of};
