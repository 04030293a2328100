//! The lines of a profile within an AWS configuration, between two marks.
//!
//! Invariant: what stands outside the marks is the same before and after, to the byte.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// A profile and its services.
pub(super) struct Block {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) region: String,
    pub(super) services: Vec<String>,
    pub(super) ca_bundle: Option<PathBuf>,
    pub(super) credential_process: Option<String>,
}

/// A profile's name: what needs no quotes.
pub(super) fn name(text: &str) -> Result<String, String> {
    let plain =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if plain { Ok(text.to_owned()) } else { Err("letters, digits, '-', '_' and '.' only".to_owned()) }
}

impl Block {
    /// The configuration with this block in it, in place of an earlier one.
    pub(super) fn insert(&self, config: &str) -> Result<String> {
        let mut text = remove(config, &self.name);
        for section in [format!("profile {}", self.name), format!("services {}", self.name)] {
            if text.lines().any(|line| header(line).is_some_and(|found| found == section)) {
                bail!("has a section [{section}] that Berth did not write: choose another name with --name");
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&self.text());
        Ok(text)
    }

    fn text(&self) -> String {
        let Self { name, url, region, .. } = self;
        let mut text = format!("{}\n[profile {name}]\nregion = {region}\nservices = {name}\n", begin(name));
        if let Some(file) = &self.ca_bundle {
            text.push_str(&format!("ca_bundle = {}\n", file.display()));
        }
        if let Some(process) = &self.credential_process {
            text.push_str(&format!("credential_process = {process}\n"));
        }
        text.push_str(&format!("[services {name}]\n"));
        for service in &self.services {
            text.push_str(&format!("{service} =\n  endpoint_url = {url}\n"));
        }
        text + &end(name) + "\n"
    }
}

/// The configuration without the block of that name.
pub(super) fn remove(config: &str, name: &str) -> String {
    let (begin, end) = (begin(name), end(name));
    let mut kept = String::new();
    let mut lines = config.split_inclusive('\n');
    while let Some(line) = lines.next() {
        if line.trim_end() != begin {
            kept.push_str(line);
            continue;
        }
        // A block without its end is somebody's edit: it stays.
        let rest = lines.clone();
        if !rest.clone().any(|line| line.trim_end() == end) {
            kept.push_str(line);
            continue;
        }
        lines.by_ref().find(|line| line.trim_end() == end);
    }
    kept
}

fn begin(name: &str) -> String {
    format!("# begin {name}: written by `berth profile install`, and replaced by it")
}

fn end(name: &str) -> String {
    format!("# end {name}")
}

/// The name of a section, its blanks made one.
fn header(line: &str) -> Option<String> {
    let inner = line.trim().strip_prefix('[')?.split(']').next()?;
    Some(inner.split_whitespace().collect::<Vec<_>>().join(" ").replace('"', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Block {
        Block {
            name: "berth".to_owned(),
            url: "https://registry.example".to_owned(),
            region: "us-east-1".to_owned(),
            services: vec!["ecr".to_owned(), "sts".to_owned()],
            ca_bundle: Some("/etc/berth/trust/registry.example.pem".into()),
            credential_process: Some("/usr/bin/berth profile credentials --file /c".to_owned()),
        }
    }

    #[test]
    fn everything_else_stays_to_the_byte() {
        for config in
            ["", "[default]\nregion = eu-west-1\n", "# mine\r\n[profile a]\r\nx=1\r\n", "no newline"]
        {
            let with = block().insert(config).unwrap();
            assert!(
                with.starts_with(config)
                    && with.contains("[services berth]\necr =\n  endpoint_url = https://")
            );
            assert_eq!(block().insert(&with).unwrap(), with, "again");
            let without = remove(&with, "berth");
            assert_eq!(without.trim_end_matches('\n'), config.trim_end_matches('\n'));
            let around = format!("{with}[profile after]\nx = 1\n");
            let moved = block().insert(&around).unwrap();
            assert!(
                moved.contains("[profile after]\nx = 1\n") && moved.matches("[profile berth]").count() == 1
            );
        }
    }

    #[test]
    fn a_profile_of_somebody_else_is_not_touched() {
        for config in ["[profile berth]\nregion = x\n", "[ services  berth ]\n", "[profile \"berth\"]\n"] {
            assert!(block().insert(config).is_err(), "{config}");
            assert_eq!(remove(config, "berth"), config);
        }
        let half = format!("{}\n[profile berth]\n", begin("berth"));
        assert_eq!(remove(&half, "berth"), half, "without its end it is somebody's edit");
    }
}
