//! The access log: one JSON object a line for each request, written by a thread of its own.
//!
//! Requests hand over what is to be said and never wait; what finds no room is left out and counted. What decided
//! about a request stands in the audit log, under the same request id.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::Thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use registry_runtime::OperationName;
use serde::Deserialize;
use time::OffsetDateTime;

/// Lines that may wait for the writer.
const QUEUE: usize = 4096;
const BATCH: usize = 64 * 1024;
/// How long lines gather behind those that were written, so that not every request wakes the writer; not longer than
/// there is room for them, nor while anybody waits for them.
const GATHER_FOR: Duration = Duration::from_millis(50);
const GATHERED: usize = QUEUE / 4;
/// How soon a full queue is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(5);
/// How often it is looked whether the file was moved away.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the end of the server waits for lines to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The key `access_log`: `stderr`, `off`, or the path of a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(crate) enum AccessLogSetting {
    Stderr,
    Off,
    File(PathBuf),
}

impl From<String> for AccessLogSetting {
    fn from(text: String) -> Self {
        match text.as_str() {
            "stderr" => Self::Stderr,
            "off" => Self::Off,
            _ => Self::File(text.into()),
        }
    }
}

/// What is said of one request.
pub(super) struct Line {
    pub(super) at_ms: i64,
    pub(super) request_id: String,
    pub(super) source_ip: Option<IpAddr>,
    pub(super) principal: Option<Arc<str>>,
    pub(super) operation: OperationName,
    pub(super) code: u16,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) duration: Duration,
}

enum Message {
    Line(Line),
    Flush(SyncSender<()>),
}

/// Where lines go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AccessLog {
    writer: Option<Writer>,
    left_out: Arc<AtomicU64>,
}

/// The thread that writes, as the others see it.
#[derive(Clone)]
struct Writer {
    queue: SyncSender<Message>,
    /// Lines in the queue.
    waiting: Arc<AtomicUsize>,
    thread: Thread,
}

impl AccessLog {
    pub(crate) fn open(setting: &AccessLogSetting) -> Result<Self> {
        let out = match setting {
            AccessLogSetting::Off => return Ok(Self { writer: None, left_out: Arc::default() }),
            AccessLogSetting::Stderr => Out::Stderr,
            AccessLogSetting::File(path) => {
                let file = append(path).with_context(|| format!("access_log: {}", path.display()))?;
                Out::File { path: path.clone(), file, looked_at: Instant::now() }
            }
        };
        let (queue, messages) = sync_channel(QUEUE);
        let waiting = Arc::<AtomicUsize>::default();
        let left = Arc::clone(&waiting);
        let thread = std::thread::Builder::new()
            .name("access".to_owned())
            .spawn(move || write_all(out, &messages, &left))?;
        let writer = Writer { queue, waiting, thread: thread.thread().clone() };
        Ok(Self { writer: Some(writer), left_out: Arc::default() })
    }

    pub(super) fn record(&self, line: Line) {
        let Some(writer) = &self.writer else { return };
        // Counted first: the writer takes it off as soon as it has the line.
        let waiting = writer.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        if writer.queue.try_send(Message::Line(line)).is_err() {
            writer.waiting.fetch_sub(1, Ordering::Relaxed);
            self.left_out.fetch_add(1, Ordering::Relaxed);
        } else if waiting.is_multiple_of(GATHERED) {
            writer.thread.unpark();
        }
    }

    /// Lines that found no room.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Waits a while until what was recorded is written. Blocks.
    pub(crate) fn flush(&self) {
        let Some(writer) = &self.writer else { return };
        let (deadline, (done, written)) = (Instant::now() + LAST_LINES, sync_channel(1));
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(unsent)) = writer.queue.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = unsent;
            std::thread::park_timeout(RETRY_AFTER);
        }
        writer.thread.unpark();
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

enum Out {
    Stderr,
    File { path: PathBuf, file: File, looked_at: Instant },
}

impl Out {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(lines),
            Self::File { path, file, looked_at } => {
                if looked_at.elapsed() >= LOOK_EVERY {
                    *looked_at = Instant::now();
                    if is_moved_away(path, file) {
                        *file = append(path)?;
                    }
                }
                file.write_all(lines)
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// By logrotate, say.
fn is_moved_away(path: &Path, file: &File) -> bool {
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(there), Ok(ours)) => (there.dev(), there.ino()) != (ours.dev(), ours.ino()),
        (Err(_), _) => true,
        (Ok(_), Err(_)) => false,
    }
}

/// Writes until the last sender is gone.
fn write_all(mut out: Out, messages: &Receiver<Message>, waiting: &AtomicUsize) {
    let mut lines = Vec::with_capacity(BATCH);
    let mut failing = false;
    while let Ok(first) = messages.recv() {
        let mut flushed = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Line(line) => {
                    waiting.fetch_sub(1, Ordering::Relaxed);
                    write_line(&mut lines, &line);
                }
                Message::Flush(done) => flushed.push(done),
            }
            if lines.len() < BATCH {
                next = messages.try_recv().ok();
            }
        }
        let is_all = lines.len() < BATCH;
        let written = out.write(&lines);
        if let (Err(error), false) = (&written, failing) {
            tracing::warn!(%error, "the access log cannot be written");
        }
        failing = written.is_err();
        lines.clear();
        drop(flushed);
        if is_all {
            std::thread::park_timeout(GATHER_FOR);
        }
    }
}

fn write_line(out: &mut Vec<u8>, line: &Line) {
    // Writing to memory does not fail.
    let _ = format_line(out, line);
}

fn format_line(out: &mut Vec<u8>, line: &Line) -> io::Result<()> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(line.at_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, millisecond) = at.to_hms_milli();
    let month = u8::from(month);
    write!(
        out,
        "{{\"time\":\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z\",\
         \"requestId\":\"{}\",\"operation\":\"{}\"",
        line.request_id, line.operation
    )?;
    if let Some(principal) = &line.principal {
        out.extend_from_slice(b",\"principal\":");
        serde_json::to_writer(&mut *out, &**principal)?;
    }
    if let Some(source_ip) = line.source_ip {
        write!(out, ",\"sourceIp\":\"{source_ip}\"")?;
    }
    writeln!(
        out,
        ",\"code\":{},\"receivedBytes\":{},\"sentBytes\":{},\"durationMs\":{}.{:03}}}",
        line.code,
        line.received,
        line.sent,
        line.duration.as_millis(),
        line.duration.subsec_micros() % 1000
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use registry_runtime::OperationName;
    use serde_json::{Value, json};

    use super::{AccessLog, AccessLogSetting, Line};

    fn line(request_id: &str) -> Line {
        Line {
            at_ms: 1_795_405_681_007,
            request_id: request_id.to_owned(),
            source_ip: Some("192.0.2.1".parse().unwrap()),
            principal: Some("arn:aws:sts::000000000000:assumed-role/r/a\"b\n".into()),
            operation: OperationName::new("oci", "GetManifest"),
            code: 200,
            received: 0,
            sent: 528,
            duration: Duration::from_micros(1_042),
        }
    }

    fn lines(path: &std::path::Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_is_one_json_object_and_a_moved_file_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = AccessLog::open(&AccessLogSetting::File(path.clone())).unwrap();
        log.record(line("a"));
        log.flush();
        assert_eq!(
            lines(&path),
            [json!({
                "time": "2026-11-23T03:48:01.007Z", "requestId": "a", "operation": "oci:GetManifest",
                "principal": "arn:aws:sts::000000000000:assumed-role/r/a\"b\n", "sourceIp": "192.0.2.1",
                "code": 200, "receivedBytes": 0, "sentBytes": 528, "durationMs": 1.042,
            })]
        );
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !path.exists() {
            assert!(std::time::Instant::now() < deadline, "the file is not made anew");
            log.record(line("b"));
            log.flush();
        }
        log.flush();
        assert_eq!(lines(&path).last().unwrap()["requestId"], "b");
        assert_eq!(log.left_out(), 0);
    }

    #[test]
    fn the_setting_is_a_word_or_a_path() {
        for (text, setting) in [
            ("stderr", AccessLogSetting::Stderr),
            ("off", AccessLogSetting::Off),
            ("/var/log/berth.log", AccessLogSetting::File("/var/log/berth.log".into())),
        ] {
            assert_eq!(AccessLogSetting::from(text.to_owned()), setting);
        }
    }
}
