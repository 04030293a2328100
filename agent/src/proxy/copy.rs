//! Carries bytes between two sockets. An end of one direction is passed on and the other direction goes on.
//!
//! A buffer is held only while there are bytes in it: an idle connection costs none.

use std::io;

use parking_lot::Mutex;
use rustix::net::shutdown;
use tokio::net::TcpStream;

const BUFFER: usize = 64 * 1024;
/// Buffers that are kept for the next ones.
const KEPT: usize = 64;
/// Full buffers after which others get their turn.
const TURN: usize = 16;

static BUFFERS: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// Ends when both directions have ended, or either has failed.
pub(super) async fn copy_both_ways(one: &mut TcpStream, other: &mut TcpStream) -> io::Result<()> {
    let (one, other) = (&*one, &*other);
    tokio::try_join!(copy(one, other), copy(other, one)).map(|((), ())| ())
}

async fn copy(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let mut count = 0usize;
    loop {
        from.readable().await?;
        let mut buffer = Held::new();
        match from.try_read(&mut buffer.0) {
            Ok(0) => break,
            Ok(read) => write_all(to, &buffer.0[..read]).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        count += 1;
        if count.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }
    match shutdown(to, rustix::net::Shutdown::Write) {
        // The other end has gone already; the other direction tells.
        Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

struct Held(Box<[u8]>);

impl Held {
    fn new() -> Self {
        Self(BUFFERS.lock().pop().unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut kept = BUFFERS.lock();
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.0));
        }
    }
}
