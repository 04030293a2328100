//! A second machine: TLS, trust, joining and certificates that change, from where a user would try them.

mod certificates;
mod fleet;
mod load;
mod profile;
mod refusals;
mod site;
