//! The `fs` driver against the real filesystem.
