//! Policy files: a directory that says who there is and who may do what.
//!
//! The directory is declarative: what it names exists, with exactly the rights it states, and what it no
//! longer names is gone. It is checked whole and published whole, as one generation in one transaction;
//! a set with an error in it changes nothing.

mod check;
mod existing;
mod fields;
mod finding;
mod model;
mod overlap;
mod plan;
mod publish;
mod read;
mod resolve;
mod scan;
mod secrets;
mod simulate;
mod watch;

pub use check::{check, check_texts};
pub use existing::{Everybody, with_existing};
pub use finding::FileFinding;
pub use model::{
    GroupFile, InlinePolicy, KeyFile, KeySecret, ManagedFile, PolicyFiles, ProviderFile, RepositoryFile,
    RoleFile, UserFile,
};
pub use publish::{Generation, PublishError};
pub use secrets::{SealedSecret, seal_secret};
pub use simulate::{
    BatchSummary, Circumstances, Difference, Permitted, Question, SimulateError, Simulation, StatementReport,
    diff, simulate, simulate_batch, simulate_case, who_can,
};
pub use watch::{FilesStatus, PolicyWatch};

#[cfg(test)]
mod accounts_tests;
#[cfg(test)]
mod tests;
