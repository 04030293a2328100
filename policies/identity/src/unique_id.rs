//! Ids in AWS's forms: a prefix that tells the kind, then random letters and digits.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use registry_runtime::{SecretString, random_bytes};

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// `AKIA…`, 20 characters.
pub(crate) fn access_key_id() -> String {
    with_prefix::<16>("AKIA")
}

/// `ASIA…`, 20 characters: the access key of a session.
pub(crate) fn temporary_access_key_id() -> String {
    with_prefix::<16>("ASIA")
}

/// Whether a text has the form of one.
pub(crate) fn is_temporary_access_key_id(text: &str) -> bool {
    text.strip_prefix("ASIA")
        .is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|byte| ALPHABET.contains(&byte)))
}

/// `AIDA…`, 21 characters.
pub(crate) fn user() -> String {
    with_prefix::<17>("AIDA")
}

/// `AROA…`, 21 characters.
pub(crate) fn role() -> String {
    with_prefix::<17>("AROA")
}

/// `AGPA…`, 21 characters.
pub(crate) fn group() -> String {
    with_prefix::<17>("AGPA")
}

/// `ANPA…`, 21 characters.
pub(crate) fn managed_policy() -> String {
    with_prefix::<17>("ANPA")
}

/// `OIDC…`, 21 characters.
pub(crate) fn oidc_provider() -> String {
    with_prefix::<17>("OIDC")
}

/// 17 letters and digits: what follows the prefix in the id of anything that is no key.
pub(crate) fn letters() -> String {
    with_prefix::<17>("")
}

/// 40 characters, 240 random bits.
pub(crate) fn secret_access_key() -> SecretString {
    STANDARD_NO_PAD.encode(random_bytes::<30>()).into()
}

fn with_prefix<const N: usize>(prefix: &str) -> String {
    let letters = random_bytes::<N>().map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    prefix.chars().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_have_the_lengths_of_aws() {
        assert_eq!(super::access_key_id().len(), 20);
        assert_eq!(super::user().len(), 21);
        assert_eq!(super::secret_access_key().expose().len(), 40);
        assert_ne!(super::role(), super::role());
    }
}
