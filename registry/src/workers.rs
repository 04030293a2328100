//! What the registry does by itself and somebody may ask about later.

mod lifecycle;

pub use lifecycle::Lifecycle;
