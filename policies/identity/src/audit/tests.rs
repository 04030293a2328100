//! The log as a file: nothing is lost at a stop, and a file that is moved away is made anew.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{AuditLog, Line, Outcome, Who};
use crate::context::RequestContext;

fn record(log: &AuditLog, request_id: usize) -> bool {
    let request = RequestContext { request_id: request_id.to_string(), ..RequestContext::local(0) };
    let caller = Who { arn: "anonymous", user_id: "anonymous", access_key_id: None, source_identity: None };
    let line = Line {
        request: &request,
        caller,
        operation: "Ping",
        asked: None,
        outcome: Outcome::Open,
        generations: (1, 0),
    };
    log.record(&line).is_ok()
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

#[test]
fn a_normal_stop_loses_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let log = AuditLog::open(&path).unwrap();
    let recorded = (0..10_000).filter(|index| record(&log, *index)).count();
    log.close();
    assert_eq!(lines(&path), recorded);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!record(&log, 0), "nothing is recorded after the end, so nothing may be allowed");
}

#[test]
fn lines_are_appended_to_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    for count in 1..=2 {
        let log = AuditLog::open(&path).unwrap();
        assert!(record(&log, count));
        log.flush();
        assert_eq!(lines(&path), count);
    }
}

#[test]
fn a_log_that_is_moved_away_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
    let log = AuditLog::open(&path).unwrap();
    assert!(record(&log, 1));
    log.flush();
    std::fs::rename(&path, &moved).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !path.exists() {
        assert!(Instant::now() < deadline, "no new file within ten seconds");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(record(&log, 2));
    log.flush();
    assert_eq!((lines(&moved), lines(&path)), (1, 1));
}
