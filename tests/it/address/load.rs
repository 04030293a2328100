//! A load of its own: a new connection for every request, few at a time, every outcome kept.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const WORKERS: usize = 4;
/// Between two requests of one worker.
const PAUSE: Duration = Duration::from_millis(10);
/// Some requests are under way for so long, so that a task that ends too early is noticed.
const SLOW: Duration = Duration::from_millis(150);
const TIMEOUT: Duration = Duration::from_secs(15);

/// One request: where it went, when it began, and what became of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) socket: SocketAddr,
    pub(super) begun: Instant,
    pub(super) failure: Option<String>,
}

pub(super) struct Load {
    stop: Arc<AtomicBool>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Asks these addresses in turn until it is finished.
    pub(super) fn start(sockets: &[SocketAddr]) -> Self {
        let (stop, outcomes) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let worker = |number: usize| {
            let (sockets, stop, outcomes) = (sockets.to_vec(), Arc::clone(&stop), Arc::clone(&outcomes));
            std::thread::spawn(move || {
                for turn in number.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let (socket, begun) = (sockets[turn % sockets.len()], Instant::now());
                    let slowly = if turn % 5 == 0 { SLOW } else { Duration::ZERO };
                    let failure = request(socket, slowly).err().map(|error| error.to_string());
                    outcomes.lock().push(Outcome { socket, begun, failure });
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let workers = (0..WORKERS).map(worker).collect();
        Self { stop, outcomes, workers }
    }

    /// How many requests are done by now.
    pub(super) fn count(&self) -> usize {
        self.outcomes.lock().len()
    }

    pub(super) fn finish(self) -> Vec<Outcome> {
        self.stop.store(true, Ordering::SeqCst);
        for worker in self.workers {
            worker.join().unwrap();
        }
        std::mem::take(&mut *self.outcomes.lock())
    }
}

pub(super) fn ask(socket: SocketAddr) -> io::Result<()> {
    request(socket, Duration::ZERO)
}

/// One request, its head in two parts with a pause between.
fn request(socket: SocketAddr, slowly: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&socket, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n")?;
    std::thread::sleep(slowly);
    stream.write_all(b"\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("it runs") {
        Ok(())
    } else {
        Err(io::Error::other(format!("the answer is {answer:?}")))
    }
}
