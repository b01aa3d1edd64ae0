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
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, UPGRADE},
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use ipnet::IpNet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use warren_runtime::hop_by_hop::remove_hop_by_hop;

use crate::{
    balance,
    body::{Passing, RequestBody, ResponseBody},
    budget::{Budget, Taking},
    current::Routes,
    endpoint::{self, Endpoint, InFlight},
    forwarding::{Client, Origin},
    headers::{self, Malformed, Prepared, Target},
    metrics,
    policy::{Policy, too_large},
    pool::{IDLE_TIMEOUT, Lease, Pool, Sender},
    routes::Route,
    tally::Tally,
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

/// How often the way of a request's body is looked after.
const LOOK: Duration = Duration::from_secs(2);

/// How long is waited for the two sides of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For an upstream that has the whole request to begin its response, and for one that has not to take more of it,
    /// unless the route says otherwise.
    pub response: Duration,
    /// For an upstream that has begun a response to go on with it, unless the route says otherwise.
    pub silence: Duration,
    /// For a client, in all, while it sends a request's body: bytes bring time back.
    pub body: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            response: Duration::from_secs(60),
            silence: Duration::from_secs(3600),
            body: Duration::from_secs(60),
        }
    }
}

/// What one worker thread has to itself.
pub(crate) struct Worker {
    pub(crate) routes: Arc<Routes>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) connections: TaskTracker,
    pub(crate) draining: AtomicBool,
    pub(crate) patience: Patience,
    /// Whose word about the clients behind them is taken.
    pub(crate) proxies: Arc<[IpNet]>,
    /// For connections, and for requests.
    pub(crate) places: Arc<Budget>,
    pub(crate) in_flight: Arc<Budget>,
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
    let Prepared { target, origin, upgrade } = match headers::forward(&mut request, client) {
        Ok(prepared) => prepared,
        Err(Malformed(status, problem)) => {
            metrics::unrouted(status);
            return text(status, format!("bad request: {problem}\n"));
        }
    };
    let Some(taking) = worker.in_flight.take(origin.address) else {
        metrics::unrouted(StatusCode::SERVICE_UNAVAILABLE);
        return text(StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time\n".to_owned());
    };
    let tunnel = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let (body, passing) = RequestBody::of(body, worker.patience.body);
    let mut request = Request::from_parts(head, body);
    let mut exchange = Exchange::new(worker, &request, passing, upgrade, &target);
    let mut is_counted = false;
    loop {
        let route = match exchange.route().await {
            Ok(route) => route,
            Err(refusal) => return refusal.into_response(),
        };
        if let Some(answer) = exchange.admit(&route, &mut request, origin).await {
            route.counters.count(answer.status());
            return answer;
        }
        if !std::mem::replace(&mut is_counted, true) {
            route.demand.count();
        }
        match exchange.run(request).await {
            Ok(answered) => return answered.pass(worker, tunnel, taking),
            Err(End::Refused(refusal)) => return refusal.into_response(),
            // Its route asks for something else by now.
            Err(End::Changed(again)) => request = again,
        }
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
            Self::Failed(route, Failure::TooLong(most)) => {
                route.counters.count(StatusCode::PAYLOAD_TOO_LARGE);
                return too_large(most);
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

/// Why an exchange came to no response.
enum End {
    Refused(Refusal),
    /// Another policy is in force since the request was admitted.
    Changed(Request<RequestBody>),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
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
    /// The route asks for something else than what the request was admitted by.
    Changed,
}

/// An upstream's response and what it came by.
struct Answered {
    chosen: Chosen,
    sender: Sender,
    response: Response<Incoming>,
}

impl Answered {
    fn pass(self, worker: &Arc<Worker>, tunnel: Option<OnUpgrade>, taking: Taking) -> Response<ResponseBody> {
        let Self { chosen: Chosen { route, in_flight }, sender, mut response } = self;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let agreed = response.headers().get(UPGRADE).is_some_and(headers::is_websocket);
            let Some(client) = tunnel.filter(|_| agreed) else {
                return Refusal::Failed(route, Failure::Malformed).into_response();
            };
            route.counters.count(response.status());
            return upgrade::tunnel(worker, client, response, in_flight, taking);
        }
        route.counters.count(response.status());
        remove_hop_by_hop(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        let silence = route.policy.read_timeout.unwrap_or(worker.patience.silence);
        let lease = Lease { pool: worker.pool.clone(), in_flight, sender };
        response.map(|body| ResponseBody::upstream(body, lease, silence, taking))
    }
}

/// The attempts of one request.
struct Exchange<'a> {
    worker: &'a Arc<Worker>,
    target: &'a Target,
    /// What the request was admitted by.
    policy: Arc<Policy>,
    upgrade: bool,
    /// The way of the request's body; nothing once it has gone, or when there is none.
    passing: Option<Passing>,
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
        passing: Option<Passing>,
        upgrade: bool,
        target: &'a Target,
    ) -> Self {
        let repeatable = request.method().is_idempotent() && matches!(request.body(), RequestBody::Empty);
        Self {
            worker,
            target,
            policy: Policy::none(),
            upgrade,
            passing,
            repeatable,
            failures: 0,
            repicks: 0,
            tried: Vec::new(),
            distrust_kept: false,
            held_until: None,
        }
    }

    /// The rule for the request; waits for the first table.
    async fn route(&mut self) -> Result<Arc<Route>, Refusal> {
        let find = |exchange: &Self| {
            let table = exchange.worker.routes.load();
            table.as_ref().map(|table| table.find(exchange.target.host(), exchange.target.path()).cloned())
        };
        let mut found = find(self);
        if found.is_none() {
            metrics::held();
            let end = *self.held_until.get_or_insert_with(|| Instant::now() + HOLD);
            let mut changes = self.worker.routes.changes();
            loop {
                found = find(self);
                if found.is_some() {
                    break;
                }
                if !matches!(timeout_at(end, changes.changed()).await, Ok(Ok(()))) {
                    return Err(Refusal::NotReady);
                }
            }
        }
        found.flatten().ok_or_else(|| no_route(self.target))
    }

    /// Puts the request under the policy of its route: an answer when it does not go on.
    async fn admit(
        &mut self,
        route: &Arc<Route>,
        request: &mut Request<RequestBody>,
        origin: Origin,
    ) -> Option<Response<ResponseBody>> {
        let policy = &route.policy;
        if !Arc::ptr_eq(policy, &self.policy) {
            // What an earlier policy changed.
            *request.uri_mut() = self.target.passed.clone().into();
            if request.headers().contains_key(HOST)
                && let Ok(host) = self.target.host().parse()
            {
                request.headers_mut().insert(HOST, host);
            }
            self.policy = policy.clone();
        }
        let answer = policy.answer(request, self.target, origin).await;
        if answer.is_some() {
            return answer;
        }
        request.body_mut().limit(policy.max_body, !policy.http2);
        let applied = policy.apply(request, self.target, route.pattern.as_ref());
        applied.err().map(|problem| text(StatusCode::BAD_REQUEST, format!("bad request: {problem}\n")))
    }

    async fn run(&mut self, mut request: Request<RequestBody>) -> Result<Answered, End> {
        loop {
            let Some(chosen) = self.choose().await? else { return Err(End::Changed(request)) };
            let (mut sender, kept) = match self.kept_connection(&chosen) {
                Some(sender) => (sender, true),
                None => match self.connect(chosen.endpoint()).await {
                    Ok(sender) => (sender, false),
                    Err(failure) => {
                        chosen.tally(|tally| tally.failed(failure, false));
                        self.failed(&chosen, failure, true)?;
                        continue;
                    }
                },
            };
            if !kept && !self.still_leads(chosen.endpoint()) {
                self.repick(chosen.route)?;
                continue;
            }
            // From the choice, or the check after connecting, to this call there is no await (see `current`).
            let copy = (self.repeatable && self.failures + 1 < ATTEMPTS).then(|| copy(&request));
            let (failure, unsent) = match self.send(&mut sender, request).await {
                Ok(response) => {
                    chosen.endpoint().answered();
                    chosen.tally(|tally| tally.answered(response.status()));
                    return Ok(Answered { chosen, sender, response });
                }
                Err(failed) => failed,
            };
            chosen.tally(|tally| tally.failed(failure, kept));
            if kept {
                self.distrust_kept = true;
            } else {
                self.tried.push(chosen.endpoint().address());
            }
            let again = unsent.or(copy.filter(|_| !failure.is_final()));
            self.failed(&chosen, failure, again.is_some())?;
            let Some(again) = again else { return Err(Refusal::Failed(chosen.route, failure).into()) };
            request = again;
        }
    }

    /// A new connection; where it may serve others at the same time, the pool knows it.
    async fn connect(&self, endpoint: &Arc<Endpoint>) -> Result<Sender, Failure> {
        let within = self.policy.connect_timeout;
        let sender = if self.policy.http2 && !self.upgrade {
            upstream::connect_http2(endpoint.address(), within).await?
        } else {
            upstream::connect(endpoint.address(), self.upgrade, within).await?
        };
        self.worker.pool.share(endpoint, &sender);
        Ok(sender)
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
            sent = sender.send(request) => sent.map_err(|mut error| {
                let unsent = error.take_message();
                (Failure::from_exchange(&error.into_error()), unsent)
            }),
            // The exchange is dropped, and with it the connection.
            failure = self.overdue() => Err((failure, None)),
        }
    }

    /// Ends when the upstream takes nothing of the request for too long, or has had all of it for too long.
    async fn overdue(&mut self) -> Failure {
        let most = |own: Option<Duration>| own.unwrap_or(self.worker.patience.response);
        let (read, send) = (most(self.policy.read_timeout), most(self.policy.send_timeout));
        if let Some(passing) = &mut self.passing {
            while timeout(LOOK.min(send), &mut passing.ended).await.is_err() {
                if passing.handed.idle() >= send {
                    return Failure::Stuck;
                }
            }
            self.passing = None;
        }
        tokio::time::sleep(read).await;
        Failure::Overdue
    }

    /// An idle connection that is fit for the request.
    fn kept_connection(&self, chosen: &Chosen) -> Option<Sender> {
        if self.upgrade || self.distrust_kept {
            return None;
        }
        let within = if self.repeatable { IDLE_TIMEOUT } else { SURELY_ALIVE };
        if self.policy.http2 {
            return self.worker.pool.take_http2(chosen.endpoint());
        }
        self.worker.pool.take(chosen.endpoint(), within)
    }

    /// Whether requests for the target may still go to the endpoint, by the table of this moment.
    fn still_leads(&self, endpoint: &Arc<Endpoint>) -> bool {
        let table = self.worker.routes.load();
        let route = table.as_ref().and_then(|table| table.find(self.target.host(), self.target.path()));
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
        if !failure.is_clients() {
            metrics::upstream_error(failure.kind());
        }
        if failure.blames_endpoint() {
            endpoint.failed(endpoint::now());
            self.worker.pool.close(endpoint);
            self.tried.push(endpoint.address());
        }
        self.failures += 1;
        let many = failure == Failure::ConnectTimeout && self.policy.connect_timeout.is_none();
        let attempts = if many { CONNECT_ATTEMPTS } else { ATTEMPTS };
        if !may_repeat || self.failures >= attempts {
            let (backend, address) = (&*chosen.route.backend, endpoint.address());
            let (reason, attempts) = (failure.kind(), self.failures);
            if failure.is_clients() {
                tracing::debug!(backend, reason, "a client did not send its request");
            } else {
                tracing::warn!(backend, %address, reason, attempts, "a request failed");
            }
            return Err(Refusal::Failed(chosen.route.clone(), failure));
        }
        metrics::retried(failure.kind());
        Ok(())
    }

    fn choose_now(&self) -> Choice {
        let table = self.worker.routes.load();
        let Some(table) = table.as_ref() else { return Choice::NotReady };
        let Some(route) = table.find(self.target.host(), self.target.path()) else { return Choice::NoRoute };
        if !Arc::ptr_eq(&route.policy, &self.policy) {
            return Choice::Changed;
        }
        match balance::pick(&route.endpoints, &self.tried, endpoint::now(), rand::random()) {
            Some(endpoint) => {
                Choice::Chosen(Chosen { route: route.clone(), in_flight: InFlight::new(endpoint.clone()) })
            }
            None => Choice::Nobody(route.clone()),
        }
    }

    /// Picks an endpoint; waits for one while there is none. `None` when the request must be admitted again.
    async fn choose(&mut self) -> Result<Option<Chosen>, Refusal> {
        match self.choose_now() {
            Choice::Chosen(chosen) => Ok(Some(chosen)),
            Choice::Changed => Ok(None),
            Choice::NoRoute => Err(no_route(self.target)),
            Choice::Nobody(_) | Choice::NotReady => self.hold().await,
        }
    }

    async fn hold(&mut self) -> Result<Option<Chosen>, Refusal> {
        metrics::held();
        let end = *self.held_until.get_or_insert_with(|| Instant::now() + HOLD);
        // Endpoints exist and all failed: they get a moment to recover, or to leave the table.
        let mut pause =
            (!self.tried.is_empty()).then(|| Instant::now() + PAUSE * self.failures * self.failures);
        let mut changes = self.worker.routes.changes();
        loop {
            // Looks after it has subscribed, so that no change is missed.
            let refusal = match self.choose_now() {
                Choice::Chosen(chosen) => return Ok(Some(chosen)),
                Choice::Changed => return Ok(None),
                Choice::NoRoute => return Err(no_route(self.target)),
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

    /// Notes what the pod behind the endpoint made of it.
    fn tally(&self, note: impl FnOnce(&Tally)) {
        if let Some(tally) = self.route.tally(self.endpoint()) {
            note(tally);
        }
    }
}

/// A request without a body, for a second attempt.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

fn no_route(target: &Target) -> Refusal {
    let short = |text: &str| text.chars().take(200).collect();
    Refusal::NoRoute { host: short(target.host()), path: short(target.path()) }
}
