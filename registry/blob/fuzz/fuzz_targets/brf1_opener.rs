//! The opener of BRF1 objects: whatever a replica holds, a read gives the blob's own bytes or an error.

#![no_main]

#[path = "../../tests/opener/program.rs"]
mod program;

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use program::Opener;

thread_local! {
    static OPENER: OnceCell<Opener> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    OPENER.with(|opener| opener.get_or_init(Opener::new).run(data));
});
