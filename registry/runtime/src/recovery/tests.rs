//! Exported, printed, typed in again: the same secrets, or a line that says where it went wrong.

use super::*;

fn keys() -> (tempfile::TempDir, LocalKeys) {
    let folder = tempfile::tempdir().unwrap();
    let keys = LocalKeys::open(&folder.path().join("keys")).unwrap();
    keys.create("system", 1).unwrap();
    keys.create("default", 1).unwrap();
    keys.create("arn:aws:kms:us-east-1:000000000000:key/1", 2).unwrap();
    (folder, keys)
}

#[test]
fn what_was_exported_is_installed_again() {
    let (folder, keys) = keys();
    let exported = keys.export().unwrap();
    assert_eq!((exported.len(), exported.installation()), (3, installation_id(&keys).unwrap().as_str()));
    for passphrase in [None, Some(SecretString::from("correct horse"))] {
        let text = exported.to_text(passphrase.as_ref());
        let read = RecoveryKey::parse(&text, passphrase.as_ref()).unwrap();
        let target = tempfile::tempdir_in(folder.path()).unwrap().path().join("keys");
        read.install(&target).unwrap();
        read.install(&target).unwrap();
        let installed = LocalKeys::open(&target).unwrap();
        for (domain, epoch) in
            [("system", 1), ("default", 1), ("arn:aws:kms:us-east-1:000000000000:key/1", 2)]
        {
            assert_eq!(installed.secret(domain, epoch).unwrap(), keys.secret(domain, epoch).unwrap());
            assert_eq!(read.secret(domain, epoch).unwrap(), keys.secret(domain, epoch).unwrap());
        }
        assert_eq!(installed.unexported().unwrap(), 0);
    }
    assert!(matches!(exported.secret("default", 9), Err(KeyError::Missing { .. })));
}

#[test]
fn a_mistyped_line_is_named() {
    let (_folder, keys) = keys();
    let text = keys.export().unwrap().to_text(None);
    // Typed by hand: no groups, a remark, an empty line.
    let typed: String = text.lines().map(|line| line.replacen(' ', "\t", 1) + "  \n\n# so far\n").collect();
    assert!(RecoveryKey::parse(&typed.replace("key\t1", "key 1"), None).is_ok());
    for (index, line) in text.lines().enumerate().skip(2) {
        let at = text.find(line).unwrap() + line.find(' ').unwrap() + 1;
        let mut typed = text.to_string();
        let wrong = if typed.as_bytes()[at] == b'0' { "1" } else { "0" };
        typed.replace_range(at..=at, wrong);
        let error = RecoveryKey::parse(&typed, None).unwrap_err();
        assert!(matches!(error, RecoveryError::Damaged { line } if line == index + 1), "{error}");
    }
    assert!(matches!(RecoveryKey::parse("nonsense", None), Err(RecoveryError::NotOne)));
    assert!(matches!(RecoveryKey::parse("", None), Err(RecoveryError::NotOne)));
    assert!(RecoveryKey::parse("berth-recovery-key 1\n", None).is_err());
}

#[test]
fn a_passphrase_is_asked_for_and_must_be_right() {
    let (_folder, keys) = keys();
    let text = keys.export().unwrap().to_text(Some(&SecretString::from("one")));
    let secret = hex::encode(keys.secret("system", 1).unwrap().expose());
    assert!(!text.replace(' ', "").contains(&secret));
    assert!(matches!(RecoveryKey::parse(&text, None), Err(RecoveryError::PassphraseNeeded)));
    let other = SecretString::from("two");
    assert!(matches!(RecoveryKey::parse(&text, Some(&other)), Err(RecoveryError::Passphrase)));
}

#[test]
fn secrets_of_another_installation_are_never_replaced() {
    let ((_a, one), (other_folder, other)) = (keys(), keys());
    let before = other.secret("system", 1).unwrap();
    let error = one.export().unwrap().install(&other_folder.path().join("keys")).unwrap_err();
    assert!(matches!(error, RecoveryError::OtherKeys { .. }));
    assert_eq!(other.secret("system", 1).unwrap(), before);
}

#[test]
fn a_new_secret_is_missed_in_the_old_export() {
    let (_folder, keys) = keys();
    assert_eq!(keys.unexported().unwrap(), 3);
    keys.note_exported(&keys.export().unwrap()).unwrap();
    assert_eq!(keys.unexported().unwrap(), 0);
    keys.create("default", 2).unwrap();
    assert_eq!(keys.unexported().unwrap(), 1);
}
