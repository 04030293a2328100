//! Amazon Resource Names, account ids and regions.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use thiserror::Error;

/// Twelve digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(Box<str>);

/// A string that is no account id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an account id has 12 digits")]
pub struct ParseAccountIdError;

impl AccountId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = ParseAccountIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let well_formed = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        if well_formed { Ok(Self(text.into())) } else { Err(ParseAccountIdError) }
    }
}

/// A region name such as `us-east-1`: lower-case letters, digits and dashes, at most 63 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(Box<str>);

/// A string that is no region name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a region is made of lower-case letters, digits and dashes, like us-east-1")]
pub struct ParseRegionError;

impl Region {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Region {
    type Err = ParseRegionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let well_formed = !text.is_empty()
            && text.len() <= 63
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if well_formed { Ok(Self(text.into())) } else { Err(ParseRegionError) }
    }
}

macro_rules! display_as_str {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )*};
}

display_as_str!(AccountId, Region, Arn);

/// `arn:partition:service:region:account:resource`. Region and account may be empty, as in IAM's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arn {
    text: Box<str>,
    /// Offsets of the five colons.
    colons: [u16; 5],
}

/// A string that is no ARN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an ARN is written arn:partition:service:region:account:resource")]
pub struct ParseArnError;

impl Arn {
    /// An ARN of the partition `aws` with a region: `arn:aws:<service>:<region>:<account>:<resource>`.
    pub fn new(service: &str, region: &Region, account: &AccountId, resource: &str) -> Self {
        Self::assemble(&format!("arn:aws:{service}:{region}:{account}:{resource}"))
    }

    /// An ARN of a service without regions (IAM, STS): `arn:aws:<service>::<account>:<resource>`.
    pub fn global(service: &str, account: &AccountId, resource: &str) -> Self {
        Self::assemble(&format!("arn:aws:{service}::{account}:{resource}"))
    }

    fn assemble(text: &str) -> Self {
        text.parse().expect("a service name, region and account hold no colon")
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn partition(&self) -> &str {
        self.part(0)
    }

    pub fn service(&self) -> &str {
        self.part(1)
    }

    pub fn region(&self) -> &str {
        self.part(2)
    }

    pub fn account(&self) -> &str {
        self.part(3)
    }

    /// Everything after the fifth colon; may hold colons and slashes.
    pub fn resource(&self) -> &str {
        &self.text[usize::from(self.colons[4]) + 1..]
    }

    fn part(&self, index: usize) -> &str {
        &self.text[usize::from(self.colons[index]) + 1..usize::from(self.colons[index + 1])]
    }
}

impl FromStr for Arn {
    type Err = ParseArnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > 2048 || !text.starts_with("arn:") {
            return Err(ParseArnError);
        }
        let mut colons = [0u16; 5];
        let mut found = text.bytes().enumerate().filter(|(_, byte)| *byte == b':').map(|(at, _)| at);
        for colon in &mut colons {
            let at = found.next().ok_or(ParseArnError)?;
            *colon = u16::try_from(at).map_err(|_| ParseArnError)?;
        }
        let arn = Self { text: text.into(), colons };
        if arn.partition().is_empty() || arn.service().is_empty() || arn.resource().is_empty() {
            return Err(ParseArnError);
        }
        Ok(arn)
    }
}

#[cfg(test)]
mod tests {
    use super::Arn;

    #[test]
    fn parts_are_split_at_the_first_five_colons() {
        let arn: Arn = "arn:aws:ecs:us-east-1:000000000000:task-definition/web:7".parse().unwrap();
        assert_eq!(
            [arn.partition(), arn.service(), arn.region(), arn.account(), arn.resource()],
            ["aws", "ecs", "us-east-1", "000000000000", "task-definition/web:7"]
        );
    }

    #[test]
    fn malformed_arns_are_refused() {
        for text in [
            "",
            "arn",
            "arn:aws:ecs:us-east-1:000000000000",
            "urn:aws:ecs:r:a:x",
            "arn::ecs:r:a:x",
            "arn:aws:ecs:r:a:",
        ] {
            assert!(text.parse::<Arn>().is_err(), "{text}");
        }
    }
}
