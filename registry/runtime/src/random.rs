//! Random bytes, from the kernel alone.
//!
//! A generator in user space would repeat itself in a forked process or a restored snapshot of a machine.
//! Invariant: every byte comes from getrandom(2).

/// `N` random bytes.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("getrandom(2) cannot fail once the kernel has booted");
    bytes
}

/// 32 lower-case hexadecimal digits: 128 random bits.
pub fn random_id() -> String {
    hex::encode(random_bytes::<16>())
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_32_hex_digits_and_differ() {
        let (one, two) = (super::random_id(), super::random_id());
        assert_ne!(one, two);
        assert!(one.len() == 32 && one.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    }
}
