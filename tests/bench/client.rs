//! A blocking HTTP/1.1 client that costs next to nothing, so that the servers are what is measured.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

/// One keep-alive connection with one `Authorization` value.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
    authorization: Option<String>,
    buffer: Vec<u8>,
}

/// Status and the headers that matter of an answer whose body was read and thrown away.
struct Answer {
    status: u16,
    location: Option<String>,
}

impl Connection {
    pub(crate) fn open(host: &str, authorization: Option<String>) -> Self {
        let stream = TcpStream::connect(host).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::with_capacity(1 << 18, stream),
            host: host.to_owned(),
            authorization,
            buffer: vec![0; 1 << 18],
        }
    }

    /// GET that must answer `status`.
    pub(crate) fn get(&mut self, path: &str, status: u16) {
        let answer = self.send("GET", path, "", &[]);
        assert_eq!(answer.status, status, "GET {path}");
    }

    /// A blob as docker pushes it: POST, PATCH with the bytes, empty PUT.
    pub(crate) fn push(&mut self, repository: &str, bytes: &[u8]) {
        let started = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[]);
        assert_eq!(started.status, 202, "POST");
        let location = self.path_of(&started);
        let patched = self.send("PATCH", &location, "Content-Type: application/octet-stream\r\n", bytes);
        assert_eq!(patched.status, 202, "PATCH {location}");
        let location = self.path_of(&patched);
        let separator = if location.contains('?') { '&' } else { '?' };
        let target = format!("{location}{separator}digest=sha256:{}", test_support::sha256(bytes));
        assert_eq!(self.send("PUT", &target, "", &[]).status, 201, "PUT {target}");
    }

    pub(crate) fn put_manifest(&mut self, repository: &str, tag: &str, bytes: &[u8]) {
        let header = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
        let answer = self.send("PUT", &format!("/v2/{repository}/manifests/{tag}"), header, bytes);
        assert_eq!(answer.status, 201, "PUT manifest {tag}");
    }

    /// The path of a Location, which may be a whole URL.
    fn path_of(&self, answer: &Answer) -> String {
        let location = answer.location.as_deref().expect("an upload has a Location");
        let path = location.trim_start_matches("http://");
        match path.strip_prefix(self.host.as_str()) {
            Some(path) => path.to_owned(),
            None => location.to_owned(),
        }
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let authorization = self
            .authorization
            .as_ref()
            .map(|value| format!("Authorization: {value}\r\n"))
            .unwrap_or_default();
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json, */*\r\n";
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{accept}{authorization}{headers}Content-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        self.answer()
    }

    fn answer(&mut self) -> Answer {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status =
            line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        let (mut length, mut chunked, mut location) = (0, false, None);
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let header = line.trim_end();
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').unwrap();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "transfer-encoding" => chunked = true,
                "location" => location = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        if chunked {
            loop {
                line.clear();
                self.stream.read_line(&mut line).unwrap();
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                self.skip(size + 2);
                if size == 0 {
                    break;
                }
            }
        } else {
            self.skip(length);
        }
        Answer { status, location }
    }

    fn skip(&mut self, mut length: usize) {
        while length > 0 {
            let room = length.min(self.buffer.len());
            let read = self.stream.read(&mut self.buffer[..room]).unwrap();
            assert!(read > 0, "the body ended early");
            length -= read;
        }
    }
}

/// `length` bytes that do not compress, the same for the same seed; made once.
pub(crate) fn content(seed: u64, length: usize) -> Arc<Vec<u8>> {
    type Made = Mutex<HashMap<(u64, usize), Arc<Vec<u8>>>>;
    static MADE: OnceLock<Made> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock();
    made.entry((seed, length))
        .or_insert_with(|| {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let words = (0..length.div_ceil(8)).flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            });
            Arc::new(words.take(length).collect())
        })
        .clone()
}

/// Content that differs from every other number's in its first bytes only.
pub(crate) fn numbered(number: usize, length: usize) -> Vec<u8> {
    let mut bytes = content(3, length).to_vec();
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    bytes
}

/// The digest's hex of the content of a seed; computed once.
pub(crate) fn digest_of(seed: u64, bytes: &[u8]) -> String {
    once(&format!("content {seed}"), || test_support::sha256(bytes))
}

/// What `make` gives, computed once for each name.
pub(crate) fn once(name: &str, make: impl FnOnce() -> String) -> String {
    static MADE: OnceLock<Mutex<HashMap<String, String>>> = OnceLock::new();
    let made = MADE.get_or_init(Mutex::default);
    let known = made.lock().get(name).cloned();
    // Not under the lock: what is made may need another name's value.
    known.unwrap_or_else(|| {
        let value = make();
        made.lock().entry(name.to_owned()).or_insert(value).clone()
    })
}
