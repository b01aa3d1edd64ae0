//! The path of one request: rule, endpoint, connection, exchange; and what is done when one of them fails.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER},
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::{
    balance,
    body::{RequestBody, ResponseBody},
    current::Routes,
    endpoint::{self, Endpoint, InFlight},
    headers::{self, Client},
    metrics,
    pool::{IDLE_TIMEOUT, Lease, Pool, Sender},
    routes::Route,
    upgrade,
    upstream::{self, Failure},
};

const ATTEMPTS: u32 = 3;
/// Where nothing was sent yet, and the way there may just be in other hands: a netd that starts on a busy machine.
const CONNECT_ATTEMPTS: u32 = 6;
/// How long a request waits for an endpoint.
const HOLD: Duration = Duration::from_secs(5);
/// How long endpoints that all failed are left alone before they are tried again, by attempt.
const PAUSE: Duration = Duration::from_millis(100);
/// A request that cannot be repeated gets a connection that was used so lately that the upstream is not
/// about to close it, or a new one.
const SURELY_ALIVE: Duration = Duration::from_secs(1);
/// How often an endpoint may leave the table while we connect to it before the request gives up.
const REPICKS: u32 = 32;

/// What one worker thread has to itself.
pub(crate) struct Worker {
    pub(crate) routes: Arc<Routes>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) connections: TaskTracker,
    pub(crate) draining: AtomicBool,
    /// How long an upstream that has the whole request may take to begin its response.
    pub(crate) response_timeout: Duration,
}

/// Answers one request. Never fails: what goes wrong is an answer too.
pub(crate) async fn handle(
    worker: Arc<Worker>,
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let version = request.version();
    let mut response = answer(&worker, &client, request).await;
    let closing = worker.draining.load(Ordering::Relaxed) && version <= Version::HTTP_11;
    if closing && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn answer(
    worker: &Arc<Worker>,
    client: &Client,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let wanted = match headers::forward(&mut request, client) {
        Ok(wanted) => wanted,
        Err(problem) => {
            metrics::unrouted(StatusCode::BAD_REQUEST);
            return text(StatusCode::BAD_REQUEST, format!("bad request: {problem}\n"));
        }
    };
    let tunnel = wanted.map(|_| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let (body, passed) = RequestBody::of(body);
    let request = Request::from_parts(head, body);
    match Exchange::new(worker, &request, passed, tunnel.is_some()).run(request).await {
        Ok(answered) => answered.pass(worker, tunnel),
        Err(refusal) => refusal.into_response(),
    }
}

/// The gateway's own words, one line.
pub(crate) fn text(status: StatusCode, line: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Text(Some(Bytes::from(line))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Why there is no upstream's response.
enum Refusal {
    NoRoute {
        host: String,
        path: String,
    },
    /// No table yet.
    NotReady,
    /// No endpoint within the time.
    Unavailable(Arc<Route>),
    Failed(Arc<Route>, Failure),
}

impl Refusal {
    fn into_response(self) -> Response<ResponseBody> {
        let (route, status, line) = match self {
            Self::NoRoute { host, path } => {
                (None, StatusCode::NOT_FOUND, format!("no route for {host} {path}\n"))
            }
            Self::NotReady => (
                None,
                StatusCode::SERVICE_UNAVAILABLE,
                "the gateway has not received its routes yet\n".to_owned(),
            ),
            Self::Unavailable(route) => {
                let line = format!("no ready endpoint for {} within {} s\n", route.backend, HOLD.as_secs());
                (Some(route), StatusCode::SERVICE_UNAVAILABLE, line)
            }
            Self::Failed(route, failure) => {
                let (status, what) = failure.answer();
                let line = format!("{} {what}\n", route.backend);
                (Some(route), status, line)
            }
        };
        match route {
            Some(route) => route.counters.count(status),
            None => metrics::unrouted(status),
        }
        text(status, line)
    }
}

/// A rule and the endpoint that was picked from it.
struct Chosen {
    route: Arc<Route>,
    in_flight: InFlight,
}

enum Choice {
    Chosen(Chosen),
    NoRoute,
    /// No endpoint that was not tried yet.
    Nobody(Arc<Route>),
    NotReady,
}

/// An upstream's response and what it came by.
struct Answered {
    chosen: Chosen,
    sender: Sender,
    response: Response<Incoming>,
}

impl Answered {
    fn pass(self, worker: &Arc<Worker>, tunnel: Option<OnUpgrade>) -> Response<ResponseBody> {
        let Self { chosen: Chosen { route, in_flight }, sender, mut response } = self;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = tunnel else {
                return Refusal::Failed(route, Failure::Malformed).into_response();
            };
            route.counters.count(response.status());
            return upgrade::tunnel(worker, client, response, in_flight);
        }
        route.counters.count(response.status());
        headers::remove_hop_by_hop(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        let lease = Lease { pool: worker.pool.clone(), in_flight, sender };
        response.map(|body| ResponseBody::upstream(body, lease))
    }
}

/// The attempts of one request.
struct Exchange<'a> {
    worker: &'a Arc<Worker>,
    upgrade: bool,
    /// Ends with the request's body; nothing once it has, or when there is none.
    passed: Option<oneshot::Receiver<()>>,
    /// Sending it twice does no harm, and we can: idempotent, and no body.
    repeatable: bool,
    failures: u32,
    repicks: u32,
    tried: Vec<SocketAddr>,
    /// A kept connection failed: the others of its age may be dead as well.
    distrust_kept: bool,
    held_until: Option<Instant>,
}

impl<'a> Exchange<'a> {
    fn new(
        worker: &'a Arc<Worker>,
        request: &Request<RequestBody>,
        passed: Option<oneshot::Receiver<()>>,
        upgrade: bool,
    ) -> Self {
        let repeatable = request.method().is_idempotent() && matches!(request.body(), RequestBody::Empty);
        Self {
            worker,
            upgrade,
            passed,
            repeatable,
            failures: 0,
            repicks: 0,
            tried: Vec::new(),
            distrust_kept: false,
            held_until: None,
        }
    }

    async fn run(mut self, mut request: Request<RequestBody>) -> Result<Answered, Refusal> {
        loop {
            let chosen = self.choose(target(&request)).await?;
            let (mut sender, kept) = match self.kept_connection(&chosen) {
                Some(sender) => (sender, true),
                None => match upstream::connect(chosen.endpoint().address(), self.upgrade).await {
                    Ok(sender) => (sender, false),
                    Err(failure) => {
                        self.failed(&chosen, failure, true)?;
                        continue;
                    }
                },
            };
            if !kept && !self.still_leads(target(&request), chosen.endpoint()) {
                self.repick(chosen.route)?;
                continue;
            }
            // From the choice, or the check after connecting, to this call there is no await (see `current`).
            let copy = (self.repeatable && self.failures + 1 < ATTEMPTS).then(|| copy(&request));
            let (failure, unsent) = match self.send(&mut sender, request).await {
                Ok(response) => {
                    chosen.endpoint().answered();
                    return Ok(Answered { chosen, sender, response });
                }
                Err(failed) => failed,
            };
            if kept {
                self.distrust_kept = true;
            } else {
                self.tried.push(chosen.endpoint().address());
            }
            let hopeless = matches!(failure, Failure::Malformed | Failure::Overdue);
            let again = unsent.or(copy.filter(|_| !hopeless));
            self.failed(&chosen, failure, again.is_some())?;
            let Some(again) = again else { return Err(Refusal::Failed(chosen.route, failure)) };
            request = again;
        }
    }

    /// Hands the request over, before it first waits, and waits for the head of the response. A failure
    /// comes with the request when nothing of it has left.
    async fn send(
        &mut self,
        sender: &mut Sender,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, (Failure, Option<Request<RequestBody>>)> {
        tokio::select! {
            biased;
            sent = sender.try_send_request(request) => sent.map_err(|mut error| {
                let unsent = error.take_message();
                (Failure::from_exchange(&error.into_error()), unsent)
            }),
            // The exchange is dropped, and with it the connection.
            () = self.overdue() => Err((Failure::Overdue, None)),
        }
    }

    /// Ends when the upstream has had the whole request for too long.
    async fn overdue(&mut self) {
        if let Some(passed) = &mut self.passed {
            let _ = passed.await;
            self.passed = None;
        }
        tokio::time::sleep(self.worker.response_timeout).await;
    }

    /// An idle connection that is fit for the request.
    fn kept_connection(&self, chosen: &Chosen) -> Option<Sender> {
        if self.upgrade || self.distrust_kept {
            return None;
        }
        let within = if self.repeatable { IDLE_TIMEOUT } else { SURELY_ALIVE };
        self.worker.pool.take(chosen.endpoint(), within)
    }

    /// Whether requests for the target may still go to the endpoint, by the table of this moment.
    fn still_leads(&self, (host, path): (&str, &str), endpoint: &Arc<Endpoint>) -> bool {
        let table = self.worker.routes.load();
        let route = table.as_ref().and_then(|table| table.find(host, path));
        route.is_some_and(|route| route.leads_to(endpoint))
    }

    /// The endpoint left the table while we connected to it: that is nobody's failure.
    fn repick(&mut self, route: Arc<Route>) -> Result<(), Refusal> {
        metrics::retried("endpoint_gone");
        self.repicks += 1;
        if self.repicks < REPICKS { Ok(()) } else { Err(Refusal::Unavailable(route)) }
    }

    /// Takes note of a failed attempt; an error when there must not be another one.
    fn failed(&mut self, chosen: &Chosen, failure: Failure, may_repeat: bool) -> Result<(), Refusal> {
        let endpoint = chosen.endpoint();
        if failure != Failure::Client {
            metrics::upstream_error(failure.kind());
        }
        if failure.blames_endpoint() {
            endpoint.failed(endpoint::now());
            self.worker.pool.close(endpoint);
            self.tried.push(endpoint.address());
        }
        self.failures += 1;
        let attempts = if failure == Failure::ConnectTimeout { CONNECT_ATTEMPTS } else { ATTEMPTS };
        if !may_repeat || self.failures >= attempts {
            let (backend, address) = (&*chosen.route.backend, endpoint.address());
            tracing::warn!(backend, %address, reason = failure.kind(), attempts = self.failures, "a request failed");
            return Err(Refusal::Failed(chosen.route.clone(), failure));
        }
        metrics::retried(failure.kind());
        Ok(())
    }

    fn choose_now(&self, (host, path): (&str, &str)) -> Choice {
        let table = self.worker.routes.load();
        let Some(table) = table.as_ref() else { return Choice::NotReady };
        let Some(route) = table.find(host, path) else { return Choice::NoRoute };
        match balance::pick(&route.endpoints, &self.tried, endpoint::now(), rand::random()) {
            Some(endpoint) => {
                Choice::Chosen(Chosen { route: route.clone(), in_flight: InFlight::new(endpoint.clone()) })
            }
            None => Choice::Nobody(route.clone()),
        }
    }

    /// Picks an endpoint; waits for one while there is none.
    async fn choose(&mut self, target: (&str, &str)) -> Result<Chosen, Refusal> {
        match self.choose_now(target) {
            Choice::Chosen(chosen) => Ok(chosen),
            Choice::NoRoute => Err(no_route(target)),
            Choice::Nobody(_) | Choice::NotReady => self.hold(target).await,
        }
    }

    async fn hold(&mut self, target: (&str, &str)) -> Result<Chosen, Refusal> {
        metrics::held();
        let end = *self.held_until.get_or_insert_with(|| Instant::now() + HOLD);
        // Endpoints exist and all failed: they get a moment to recover, or to leave the table.
        let mut pause =
            (!self.tried.is_empty()).then(|| Instant::now() + PAUSE * self.failures * self.failures);
        let mut changes = self.worker.routes.changes();
        loop {
            // Looks after it has subscribed, so that no change is missed.
            let refusal = match self.choose_now(target) {
                Choice::Chosen(chosen) => return Ok(chosen),
                Choice::NoRoute => return Err(no_route(target)),
                Choice::Nobody(route) => Refusal::Unavailable(route),
                Choice::NotReady => Refusal::NotReady,
            };
            let until = pause.map_or(end, |pause| pause.min(end));
            match timeout_at(until, changes.changed()).await {
                Ok(Ok(())) => {}
                Err(_) if pause.take().is_some() => self.tried.clear(),
                Ok(Err(_)) | Err(_) => return Err(refusal),
            }
        }
    }
}

impl Chosen {
    fn endpoint(&self) -> &Arc<Endpoint> {
        self.in_flight.endpoint()
    }
}

/// Host and path of a request that [`headers::forward`] has prepared.
fn target<B>(request: &Request<B>) -> (&str, &str) {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    (host, request.uri().path())
}

/// A request without a body, for a second attempt.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

fn no_route((host, path): (&str, &str)) -> Refusal {
    let short = |text: &str| text.chars().take(200).collect();
    Refusal::NoRoute { host: short(host), path: short(path) }
}
