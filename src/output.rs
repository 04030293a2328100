//! What happens when the output of a command cannot be written.
//!
//! `println!` panics then. A reader that has gone (`berth instance list | head -1`) ends a command without a word, as
//! it ends every tool; anything else that keeps output from being written is an error like others.

use std::process::exit;

/// What a shell makes of a program that SIGPIPE ended.
pub(crate) const READER_GONE: u8 = 128 + 13;

/// How the panic of `println!` begins.
const UNWRITTEN: &str = "failed printing to stdout: ";

/// Ends the process in that way from now on.
pub(crate) fn end_with_its_reader() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<String>();
        let Some(problem) = message.and_then(|message| message.strip_prefix(UNWRITTEN)) else {
            return report(panic);
        };
        let gone = std::io::Error::from_raw_os_error(rustix::io::Errno::PIPE.raw_os_error());
        if problem == gone.to_string() {
            exit(READER_GONE.into());
        }
        eprintln!("error: the output cannot be written: {problem}");
        exit(1);
    }));
}
