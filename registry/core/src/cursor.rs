//! Cursors of listings whose rows not everybody may see.
//!
//! A filtered page may end at a row that its reader must not learn of, so its cursor is sealed: it opens
//! here, on every server, and names nothing.

use crate::registry::Registry;

const COLUMN: &str = "cursor.position";

impl Registry {
    /// The position as text that tells its reader nothing: lower-case hex.
    pub fn hide_cursor(&self, listing: &str, position: &str) -> String {
        let sealed = self.inner.sealer.seal(COLUMN, &[listing.as_bytes()], position.as_bytes());
        sealed.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The position of a hidden cursor of the same listing; `None` for anything else.
    pub fn reveal_cursor(&self, listing: &str, cursor: &str) -> Option<String> {
        let digits = cursor.as_bytes();
        if !digits.len().is_multiple_of(2) || digits.len() > 2048 || !digits.is_ascii() {
            return None;
        }
        let bytes: Option<Vec<u8>> = digits
            .chunks_exact(2)
            .map(|pair| {
                let high = char::from(pair[0]).to_digit(16)?;
                let low = char::from(pair[1]).to_digit(16)?;
                u8::try_from(high << 4 | low).ok()
            })
            .collect();
        let opened = self.inner.sealer.open(COLUMN, &[listing.as_bytes()], &bytes?).ok()?;
        String::from_utf8(opened.expose().to_vec()).ok()
    }
}
