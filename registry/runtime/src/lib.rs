//! What every process of Berth needs and no room owns: configuration, clock, telemetry, shutdown, workers, the
//! listener, secrets and durable files.
//!
//! Knows no domain types. Invariant: the environment, the system's clock and its random source are touched
//! here alone, so that the rooms above can be tested without them.

pub mod config;
pub mod durable;
pub mod listener;
pub mod telemetry;
pub mod tls;
pub mod worker;

mod clock;
mod hold;
mod keys;
mod places;
mod random;
mod recovery;
mod sealed_stream;
mod sealer;
mod secret;
mod served;
mod shutdown;
mod throttle;
mod url;

pub use clock::Clock;
pub use hold::Hold;
pub use keys::{KeyError, KeyProvider, LocalKeys};
pub use listener::{OverTls, Peer};
pub use places::{default_data_dir, home_dir, is_root};
pub use random::{random_bytes, random_id};
pub use recovery::{RecoveryError, RecoveryKey, installation_id};
pub use sealed_stream::{RecordSeal, SealedReader, SealedWriter, StreamError, StreamKey, StreamKind};
pub use sealer::{SealError, Sealer};
pub use secret::{Secret, SecretString};
pub use served::{OperationName, Served};
pub use shutdown::Shutdown;
pub use throttle::{Throttle, network_of};
pub use url::base_url;
