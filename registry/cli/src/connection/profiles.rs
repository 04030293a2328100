//! The profiles of AWS's tools, and the key that one of them signs with.
//!
//! A profile that somebody named is used or refused: no other key ever takes its place.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use registry_aws::Credentials;
use serde_json::Value;

use super::credentials;

/// The two files that profiles lie in.
pub(super) struct Profiles {
    pub(super) credentials: PathBuf,
    pub(super) config: PathBuf,
}

impl Profiles {
    /// The key of a profile: what stands in the credentials, or else in the configuration, or what the program
    /// there says that makes keys.
    ///
    /// # Errors
    /// When neither file has the profile, or it has no key.
    pub(super) fn key_of(&self, name: &str) -> Result<Credentials> {
        let in_credentials = section(&self.credentials, |title| title == name)?;
        let in_config = section(&self.config, |title| match title.strip_prefix("profile ") {
            Some(title) => title.trim().trim_matches('"') == name,
            None => title == "default" && name == "default",
        })?;
        if in_credentials.is_none() && in_config.is_none() {
            bail!(
                "The config profile ({name}) could not be found in {} or {}. `aws configure list-profiles` shows those \
                 that are there, and `aws configure --profile {name}` makes it; without --profile and AWS_PROFILE the \
                 key in the data directory of the server is used",
                self.credentials.display(),
                self.config.display()
            );
        }
        let place = if in_credentials.is_some() { &self.credentials } else { &self.config };
        let sections: Vec<Vec<String>> = [in_credentials, in_config].into_iter().flatten().collect();
        if let Some(key) = sections.iter().find_map(|lines| key_in(lines.iter().map(String::as_str))) {
            return Ok(key);
        }
        let lines = || sections.iter().flatten().map(String::as_str);
        match field(lines(), "credential_process") {
            Some(command) => {
                made_by(command).with_context(|| format!("the credential_process of profile {name}"))
            }
            None => bail!(
                "profile {name} of {} has no aws_access_key_id and aws_secret_access_key, and no credential_process",
                place.display()
            ),
        }
    }
}

/// Reads the access key of the default profile; `None` when the file or the profile is not there.
pub(super) fn default_key(path: &Path) -> Result<Option<Credentials>> {
    let Some(lines) = section(path, |title| title == "default")? else { return Ok(None) };
    key_in(lines.iter().map(String::as_str)).map(Some).with_context(|| {
        format!("profile default of {} has no aws_access_key_id and aws_secret_access_key", path.display())
    })
}

/// The lines below the title that is looked for; `None` when the file or the title is not there.
fn section(path: &Path, is_it: impl Fn(&str) -> bool) -> Result<Option<Vec<String>>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("{} cannot be read", path.display()))?,
    };
    let title = |line: &str| Some(line.trim().strip_prefix('[')?.strip_suffix(']')?.trim().to_owned());
    let mut lines = text.lines();
    if !lines.by_ref().any(|line| title(line).is_some_and(|title| is_it(&title))) {
        return Ok(None);
    }
    Ok(Some(lines.take_while(|line| title(line).is_none()).map(str::to_owned).collect()))
}

pub(super) fn key_in<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> Option<Credentials> {
    let own = |name: &str| field(lines.clone(), name).map(str::to_owned);
    let (id, secret) = (own("aws_access_key_id")?, own("aws_secret_access_key")?);
    Some(credentials(&id, &secret, own("aws_session_token")))
}

fn field<'a>(mut lines: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    lines
        .find_map(|line| line.split_once('=').filter(|(own, _)| own.trim() == name))
        .map(|(_, value)| value.trim())
}

/// Runs a program that makes a key, such as the one that `berth profile install` writes.
fn made_by(command: &str) -> Result<Credentials> {
    let words = words(command).context("its quotes do not match")?;
    let (program, arguments) = words.split_first().context("it is empty")?;
    let answer = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !answer.status.success() {
        bail!("{program} failed ({})", answer.status);
    }
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
    let text = |name: &str| answer[name].as_str().map(str::to_owned);
    match (text("AccessKeyId"), text("SecretAccessKey")) {
        (Some(id), Some(secret)) => Ok(credentials(&id, &secret, text("SessionToken"))),
        _ => bail!("{program} did not answer with an AccessKeyId and a SecretAccessKey"),
    }
}

/// The words of a line as a shell has them, without variables; `None` when a quote is not closed.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(letters.next()?),
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::{Profiles, words};

    #[test]
    fn a_profile_has_its_key_in_either_file_or_of_a_program() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let profiles = Profiles { credentials: at("credentials"), config: at("config") };
        let problem = |name: &str| profiles.key_of(name).unwrap_err().to_string();
        assert!(problem("ghost").starts_with("The config profile (ghost) could not be found in "));
        std::fs::write(at("credentials"), "[both]\naws_access_key_id=A\naws_secret_access_key=s\n").unwrap();
        let made = r#"{"Version": 1, "AccessKeyId": "MADE", "SecretAccessKey": "s", "SessionToken": "t"}"#;
        let config = format!(
            "[default]\nregion=x\n[profile both]\naws_access_key_id=B\naws_secret_access_key=s\n[profile \"in config\"]\n\
             aws_access_key_id = C\naws_secret_access_key = s\n[profile made]\ncredential_process = echo '{made}'\n\
             [profile fails]\ncredential_process = false\n[profile says]\ncredential_process = echo {{}}\n"
        );
        std::fs::write(at("config"), config).unwrap();
        for (name, expected) in [("both", "A"), ("in config", "C"), ("made", "MADE")] {
            assert_eq!(profiles.key_of(name).unwrap().access_key_id, expected, "{name}");
        }
        assert_eq!(profiles.key_of("made").unwrap().session_token.as_deref(), Some("t"));
        assert!(problem("default").starts_with("profile default of "), "{}", problem("default"));
        for (name, words) in [("fails", "false failed"), ("says", "did not answer")] {
            let problem = format!("{:#}", profiles.key_of(name).unwrap_err());
            assert!(problem.contains(words) && problem.contains(name), "{problem}");
        }
        for name in ["ghost", "", "profile made"] {
            assert!(problem(name).contains("could not be found"), "{name}");
        }
    }

    #[test]
    fn words_are_split_as_by_a_shell() {
        for (line, expected) in [
            ("/a/b  c --d", vec!["/a/b", "c", "--d"]),
            ("\"/a b\" 'c \"d\"' e\\ f \"\" ", vec!["/a b", "c \"d\"", "e f", ""]),
            ("\"a\\\"b\"c", vec!["a\"bc"]),
            ("", vec![]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        for open in ["\"a", "'", "a\\"] {
            assert_eq!(words(open), None, "{open}");
        }
    }
}
