//! The Query protocol of IAM and STS: a form with an `Action` in, XML out.

mod decode;
mod xml;

pub use decode::{Form, decode};
pub use xml::{error_document, response};
