//! Refuses HTTP/1 heads whose length two parsers could read differently (RFC 9112 6.3): a length beside a
//! transfer coding, two lengths, codings other than `chunked`.
//!
//! hyper drops such a length silently before anybody sees it, so this looks at the bytes on their way to hyper
//! and follows where heads begin and end. It decides nothing else: a head that is refused is spoilt in its last
//! byte, so that hyper itself answers 400 and closes; whatever it cannot follow it passes on untouched.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest part of a line that is kept: both field names, and a number of twenty digits, are shorter.
const KEPT: usize = 32;

/// What heads HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// A connection whose incoming bytes are followed.
pub(super) struct Framed<S> {
    stream: S,
    framing: Framing,
    /// Set once the connection speaks another protocol.
    upgraded: Arc<AtomicBool>,
}

impl<S> Framed<S> {
    pub(super) fn new(stream: S, upgraded: Arc<AtomicBool>) -> Self {
        Self { stream, framing: Framing::default(), upgraded }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.upgraded.load(Ordering::Relaxed) {
            self.framing.state = State::Unknown;
        }
        self.framing.follow(&mut buffer.filled_mut()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where in the conversation the next byte stands.
#[derive(Default)]
struct Framing {
    state: State,
    head: Head,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum State {
    /// In a line of a head.
    #[default]
    Head,
    /// So many bytes of content follow.
    Content(u64),
    /// In the size of a chunk; digits so far.
    ChunkSize(u64),
    /// After the size, until the end of its line.
    ChunkExtension(u64),
    /// In a chunk and the end of line behind it.
    Chunk(u64),
    /// In a line after the last chunk, of so many bytes so far.
    Trailer(u64),
    /// Another protocol, or what hyper will refuse.
    Unknown,
}

/// What was seen of the head so far.
#[derive(Default)]
struct Head {
    /// The first line is the request's, not a field.
    is_field: bool,
    line: [u8; KEPT],
    /// Bytes of the current name or value, without the end of its line; only the first are kept.
    line_len: usize,
    name: Name,
    /// The length that is stated; `None` inside is one that cannot be read.
    length: Option<Option<u64>>,
    chunked: bool,
    refused: bool,
}

/// The field that the rest of the line is the value of.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Name {
    /// The name is not complete.
    #[default]
    Unread,
    ContentLength,
    TransferEncoding,
    Other,
}

impl Framing {
    /// Follows the next bytes; spoils the end of a head that is refused.
    fn follow(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Unknown => return,
                State::Content(left) => {
                    let here = left.min((bytes.len() - at) as u64);
                    at += usize::try_from(here).unwrap_or(usize::MAX);
                    self.state = if left == here { State::Head } else { State::Content(left - here) };
                }
                State::Chunk(left) => {
                    let here = left.min((bytes.len() - at) as u64);
                    at += usize::try_from(here).unwrap_or(usize::MAX);
                    self.state = if left == here { State::ChunkSize(0) } else { State::Chunk(left - here) };
                }
                State::Head => {
                    if self.head.name == Name::Other {
                        // Most bytes of most heads: values that mean nothing here.
                        let rest = bytes[at..].iter().position(|byte| *byte == b'\n');
                        at = rest.map_or(bytes.len(), |rest| at + rest);
                    }
                    match bytes.get_mut(at) {
                        None => return,
                        Some(line_feed @ b'\n') => self.end_line(line_feed),
                        Some(byte) => self.head.take(*byte),
                    }
                    at += 1;
                }
                State::ChunkSize(_) | State::ChunkExtension(_) | State::Trailer(_) => {
                    self.chunk_line(bytes[at]);
                    at += 1;
                }
            }
        }
    }

    /// At the line feed that ends a line of a head.
    fn end_line(&mut self, line_feed: &mut u8) {
        let head = &mut self.head;
        if !head.is_field {
            // hyper allows empty lines before a request.
            if head.line_len > 0 {
                let preface = head.line[..head.line_len.min(KEPT)].starts_with(PREFACE);
                head.is_field = true;
                head.next_line();
                if preface {
                    self.state = State::Unknown;
                }
            }
            return;
        }
        if head.line_len > 0 || head.name != Name::Unread {
            head.end_field();
            return;
        }
        let head = std::mem::take(head);
        if head.refused || (head.length.is_some() && head.chunked) {
            *line_feed = 0;
            self.state = State::Unknown;
        } else if head.chunked {
            self.state = State::ChunkSize(0);
        } else {
            self.state = match head.length {
                None | Some(Some(0)) => State::Head,
                Some(Some(length)) => State::Content(length),
                // hyper refuses it.
                Some(None) => State::Unknown,
            };
        }
    }

    /// A byte between chunks. What hyper would not accept is not followed further.
    fn chunk_line(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::ChunkSize(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                match size.checked_mul(16).and_then(|size| size.checked_add(digit)) {
                    Some(size) => State::ChunkSize(size),
                    None => State::Unknown,
                }
            }
            (State::ChunkSize(size), b'\r' | b';' | b' ' | b'\t') => State::ChunkExtension(size),
            (State::ChunkExtension(0), b'\n') => State::Trailer(0),
            // The end of line behind the chunk goes with it.
            (State::ChunkExtension(size), b'\n') => size.checked_add(2).map_or(State::Unknown, State::Chunk),
            (State::ChunkExtension(size), _) => State::ChunkExtension(size),
            (State::Trailer(0), b'\n') => State::Head,
            (State::Trailer(_), b'\n') => State::Trailer(0),
            (State::Trailer(length), b'\r') => State::Trailer(length),
            (State::Trailer(length), _) => State::Trailer(length.saturating_add(1)),
            _ => State::Unknown,
        };
    }
}

impl Head {
    /// A byte of a line, but for its end.
    fn take(&mut self, byte: u8) {
        if byte == b'\r' {
            return;
        }
        if self.is_field && byte == b':' && self.name == Name::Unread {
            let name = &self.line[..self.line_len.min(KEPT)];
            self.name = if self.line_len > KEPT {
                Name::Other
            } else if name.eq_ignore_ascii_case(b"content-length") {
                Name::ContentLength
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                Name::TransferEncoding
            } else {
                Name::Other
            };
            self.line_len = 0;
            return;
        }
        // Room before a value is none of it.
        if self.name != Name::Unread && self.line_len == 0 && matches!(byte, b' ' | b'\t') {
            return;
        }
        if let Some(place) = self.line.get_mut(self.line_len) {
            *place = byte;
        }
        self.line_len += 1;
    }

    fn end_field(&mut self) {
        let kept = &self.line[..self.line_len.min(KEPT)];
        let value = if self.line_len > KEPT { None } else { Some(kept.trim_ascii_end()) };
        match self.name {
            Name::ContentLength => {
                let number = value.and_then(|value| std::str::from_utf8(value).ok());
                let number = number.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                self.refused |= self.length.is_some();
                self.length = Some(number.and_then(|text| text.parse().ok()));
            }
            Name::TransferEncoding => {
                let is_chunked = value.is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
                self.refused |= self.chunked || !is_chunked;
                self.chunked = true;
            }
            Name::Unread | Name::Other => {}
        }
        self.next_line();
    }

    fn next_line(&mut self) {
        self.line_len = 0;
        self.name = Name::Unread;
    }
}

#[cfg(test)]
mod tests {
    use super::{Framing, State};

    /// Whether a head of these bytes is refused, whatever pieces they come in.
    fn refused(conversation: &str) -> bool {
        let mut outcomes = (1..=conversation.len()).map(|piece| {
            let (mut framing, mut bytes) = (Framing::default(), conversation.as_bytes().to_vec());
            bytes.chunks_mut(piece).for_each(|piece| framing.follow(piece));
            bytes != conversation.as_bytes()
        });
        let first = outcomes.next().unwrap();
        assert!(outcomes.all(|outcome| outcome == first), "{conversation}");
        first
    }

    fn head(fields: &str) -> String {
        format!("PUT /v2/a HTTP/1.1\r\nHost: a\r\nX-Empty:\r\n{fields}\r\n")
    }

    const BOTH: &str = "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n";

    #[test]
    fn ambiguous_lengths_are_refused() {
        for fields in [
            BOTH,
            "content-length: 3\r\ntransfer-encoding:chunked\r\n",
            "CONTENT-LENGTH:\t3 \r\nTransfer-Encoding: \tCHUNKED\t\r\n",
            "Transfer-Encoding: chunked\nContent-Length: 3\n",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding:\r\n",
            "Transfer-Encoding: chunked, chunked, chunked, chunked, chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: nonsense\r\n",
        ] {
            assert!(refused(&head(fields)), "{fields}");
        }
    }

    #[test]
    fn everything_else_passes_untouched() {
        for conversation in [
            head(""),
            head("Content-Length: 3\r\n") + "abc",
            head("Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n",
            // The words of a head inside of content are content.
            head(&format!("Content-Length: {}\r\n", head(BOTH).len())) + &head(BOTH),
            head("Transfer-Encoding: chunked\r\n")
                + &format!(
                    "{:x};x=y\r\n{}\r\n0\r\nTransfer-Encoding: a\r\n\r\n",
                    head(BOTH).len(),
                    head(BOTH)
                ),
            head("X-Content-Length: 3\r\nTransfer-Encoding-: chunked\r\nContent-Length: 0\r\n"),
            format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{}", head(BOTH)),
            head(
                &format!("X-Long: {}{BOTH}", "a".repeat(100))
                    .replace("\r\n", " ")
                    .replace("Long: ", "Long: a"),
            ),
        ] {
            assert!(!refused(&conversation), "{conversation}");
        }
    }

    #[test]
    fn the_head_behind_content_is_found() {
        for before in [
            head(""),
            "\r\n".to_owned() + &head(""),
            head("Content-Length: 3\r\n") + "abc",
            head("Content-Length: 0\r\n"),
            head("Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n00\r\n\r\n",
            head("Transfer-Encoding: chunked\r\n") + "A;x\r\n0123456789\r\n0\r\nX: y\r\nZ:\r\n\r\n",
        ] {
            assert!(refused(&format!("{before}{}", head(BOTH))), "{before}");
            assert!(!refused(&format!("{before}{}", head(""))), "{before}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_left_to_hyper() {
        for (fields, content) in [
            ("Content-Length: -3\r\n", "abc"),
            ("Content-Length: 99999999999999999999\r\n", "abc"),
            ("Transfer-Encoding: chunked\r\n", "zz\r\n"),
            ("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n"),
            ("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\n"),
        ] {
            let (mut framing, mut bytes) = (Framing::default(), (head(fields) + content).into_bytes());
            framing.follow(&mut bytes);
            assert_eq!(framing.state, State::Unknown, "{fields}{content}");
        }
    }
}
