//! Log lines on standard error.
//!
//! Invariant: installed once per process, before anything is logged; standard output stays free for answers.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Installs the log. `BERTH_LOG` sets what is shown, in the form `info,registry=debug`; without it `info`. A
/// second call changes nothing.
pub fn init(format: Format) {
    let filter = EnvFilter::builder().with_env_var("BERTH_LOG");
    let filter = filter.with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A line that cannot be written, because the log's disk is full, is lost: telling that on the same output would
    // panic, and end whatever wanted to log.
    let builder = builder.log_internal_errors(false);
    let installed = match format {
        Format::Text => {
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(terminal).with_target(false).try_init()
        }
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    // Only a test that starts several servers in one process gets here twice.
    drop(installed);
}
