//! The operator's commands that go over Berth's public APIs: nothing here opens a data directory's database.
//!
//! Every command signs its requests with an access key like any other client, and is decided by the
//! same policies. On the server's own machine endpoint and key are found in the data directory.
#![allow(clippy::print_stdout, reason = "printing is what commands are for")]

mod adopt;
mod cluster;
mod connection;
mod deploy;
mod instance;
mod key;
mod policy;
mod profile;
mod quota;
mod session;
mod status;
mod store;
mod table;
mod trust;
mod upstream;

pub use adopt::Adopt;
pub use cluster::{JoinToken, JoinTokens};
pub use connection::{Connection, Output};
pub use deploy::Deploy;
pub use instance::Instance;
pub use key::Key;
pub use policy::Apply;
pub use profile::Profile;
pub use quota::Quota;
pub use session::Session;
pub use status::Status;
pub use store::Store;
pub use trust::Trust;
pub use upstream::Upstream;
