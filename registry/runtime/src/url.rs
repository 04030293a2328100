//! The base URL of a server, written the one way that every client takes.

/// `https://HOST` or `http://HOST`, the port left out where it is the scheme's own: some clients take it for a part
/// of the name that the certificate is to be for.
pub fn base_url(secure: bool, host: &str) -> String {
    let (scheme, port) = if secure { ("https", ":443") } else { ("http", ":80") };
    // An address of IPv6 without its brackets ends with anything.
    let bare = host.strip_suffix(port).filter(|bare| !bare.contains(':') || bare.ends_with(']'));
    format!("{scheme}://{}", bare.unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use super::base_url;

    #[test]
    fn the_schemes_own_port_is_left_out() {
        for (secure, host, url) in [
            (true, "a.example:443", "https://a.example"),
            (true, "a.example", "https://a.example"),
            (true, "a.example:80", "https://a.example:80"),
            (true, "[2001:db8::443]:443", "https://[2001:db8::443]"),
            (false, "127.0.0.1:80", "http://127.0.0.1"),
            (false, "127.0.0.1:5000", "http://127.0.0.1:5000"),
        ] {
            assert_eq!(base_url(secure, host), url);
        }
    }
}
