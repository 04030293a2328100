//! Images: who may have which, and how the engine gets them.
//!
//! The engine pulls Berth's images from an endpoint of this agent on 127.0.0.1, with a credential made for
//! that one pull; so it needs no setting and holds no rights. Before every creation of a container the
//! registry must allow the task's execution role to pull, whether the image is present or not.

mod body;
mod endpoint;
mod foreign;
mod grants;
mod images;
mod manifest;
mod rights;
mod sweep;
mod upstream;

pub(crate) use endpoint::bind;
pub(crate) use grants::Grants;
pub(crate) use images::{ImageRequest, Images};
pub(crate) use rights::Rights;
pub(crate) use sweep::ImageUse;
pub(crate) use upstream::{Access, Upstream};

#[cfg(test)]
mod tests;
