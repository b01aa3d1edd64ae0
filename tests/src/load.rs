//! A constant load over HTTP that counts every failure and when it happened.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const PER_REQUEST: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(10);

/// What a load saw.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Requests that were sent.
    pub requests: u64,
    /// Each failure: when, and what.
    pub failures: Vec<(Instant, String)>,
}

impl Report {
    /// Panics unless every request succeeded and there were enough of them to mean something.
    pub fn assert_flawless(&self) {
        assert!(self.requests >= 100, "only {} requests were sent", self.requests);
        assert!(
            self.failures.is_empty(),
            "{} of {} requests failed; the first: {}",
            self.failures.len(),
            self.requests,
            self.failures[0].1
        );
    }
}

/// Workers that send requests until stopped: half on kept connections, half on a new one each time.
pub struct Load {
    report: Arc<Mutex<Report>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts `workers` workers.
    pub fn start(address: SocketAddr, path: &str, workers: usize) -> Self {
        Self::paced(address, path, workers, PAUSE)
    }

    /// The same; each worker pauses between two requests.
    pub fn paced(address: SocketAddr, path: &str, workers: usize, pause: Duration) -> Self {
        let (report, stop) = (Arc::<Mutex<Report>>::default(), CancellationToken::new());
        let (path, shared, stopped) = (path.to_owned(), Arc::clone(&report), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let workers = (0..workers).map(|index| {
                    let worker = Worker {
                        address,
                        path: path.clone(),
                        keep: index % 2 == 0,
                        pause,
                        report: Arc::clone(&shared),
                    };
                    tokio::spawn(worker.run(stopped.clone()))
                });
                for worker in workers.collect::<Vec<_>>() {
                    worker.await.expect("a worker does not panic");
                }
            });
        });
        Self { report, stop, thread: Some(thread) }
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        self.report.lock().expect("no worker panicked").clone()
    }

    /// Waits until `count` further requests were sent.
    pub fn more(&self, count: u64) {
        let target = self.report().requests + count;
        crate::eventually("the load goes on", || {
            let requests = self.report().requests;
            if requests >= target { Ok(()) } else { Err(format!("{requests} of {target} requests")) }
        });
    }

    /// Ends the load.
    pub fn stop(mut self) -> Report {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the load does not panic");
        }
        self.report()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Worker {
    address: SocketAddr,
    path: String,
    keep: bool,
    pause: Duration,
    report: Arc<Mutex<Report>>,
}

impl Worker {
    async fn run(self, stop: CancellationToken) {
        let mut connection = None;
        while !stop.is_cancelled() {
            let outcome = tokio::time::timeout(PER_REQUEST, self.request(&mut connection)).await;
            let failure = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{error:#}")),
                Err(_) => Some(format!("no answer within {} s", PER_REQUEST.as_secs())),
            };
            {
                let mut report = self.report.lock().expect("no worker panicked");
                report.requests += 1;
                if let Some(failure) = failure {
                    report.failures.push((Instant::now(), failure));
                    connection = None;
                }
            }
            if !self.keep {
                connection = None;
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    async fn request(&self, connection: &mut Option<SendRequest<Empty<Bytes>>>) -> anyhow::Result<()> {
        let mut sender = match connection.take() {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(driver);
                sender
            }
        };
        let request = Request::get(&self.path).header("host", self.address.to_string()).body(Empty::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::ensure!(status.is_success(), "status {status}: {}", String::from_utf8_lossy(&body));
        if sender.ready().await.is_ok() {
            *connection = Some(sender);
        }
        Ok(())
    }
}
