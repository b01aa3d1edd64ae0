//! What a route asks of its requests, and does with them, beside leading to a backend: redirects, who may pass, other
//! paths, time-outs. Compiled once; a route without annotations costs one comparison.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_LENGTH, HOST, LOCATION, WWW_AUTHENTICATE},
    uri::PathAndQuery,
};
use ipnet::IpNet;
use warren_proto::control::{BasicAuthentication, HttpPolicy};

use crate::{
    addresses::within,
    basic::{Users, Verdict},
    body::ResponseBody,
    forwarding::Origin,
    headers::Target,
    proxy::text,
    rewrite::Rewrite,
};

static NONE: LazyLock<Arc<Policy>> = LazyLock::new(Arc::default);

/// How the requests of a route are served.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    /// What it was compiled from.
    source: Source,
    /// It asks for something.
    asks: bool,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) send_timeout: Option<Duration>,
    pub(crate) max_body: Option<u64>,
    pub(crate) http2: bool,
    pub(crate) rewrite: Option<Rewrite>,
    to_https: bool,
    redirect: Option<(StatusCode, HeaderValue)>,
    app_root: Option<HeaderValue>,
    allowed: Vec<IpNet>,
    users: Option<Gate>,
    upstream_host: Option<HeaderValue>,
    refusal: Option<String>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Source(HttpPolicy, Option<BasicAuthentication>);

/// Who asks for names and passwords.
#[derive(Debug)]
struct Gate {
    users: Users,
    challenge: HeaderValue,
}

impl Policy {
    /// The one that asks for nothing.
    pub(crate) fn none() -> Arc<Self> {
        NONE.clone()
    }

    /// Whether it was compiled from exactly this.
    pub(crate) fn is_of(&self, policy: &HttpPolicy, users: Option<&BasicAuthentication>) -> bool {
        self.source.0 == *policy && self.source.1.as_ref() == users
    }

    /// Compiles a policy; `users` are those that it names, if they are known. What cannot be understood and is
    /// no protection is left out and named in `problems`; a protection that cannot be understood lets nobody pass.
    pub(crate) fn compile(
        policy: &HttpPolicy,
        users: Option<&BasicAuthentication>,
        problems: &mut Vec<String>,
    ) -> Arc<Self> {
        if *policy == HttpPolicy::default() {
            return Self::none();
        }
        let seconds = |seconds: u32| (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        let mut refusal = Some(policy.refusal.clone()).filter(|refusal| !refusal.is_empty());
        let mut value = |text: &str, what: &str| {
            let value = HeaderValue::try_from(text).ok().filter(|_| !text.is_empty());
            if value.is_none() && !text.is_empty() {
                problems.push(format!("{what} {text:?} cannot be sent"));
            }
            value
        };
        let status =
            u16::try_from(policy.redirect_status).ok().and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.filter(StatusCode::is_redirection).unwrap_or(StatusCode::FOUND);
        let redirect = value(&policy.redirect_url, "the redirect").map(|url| (status, url));
        let app_root = value(&policy.app_root, "the root");
        let upstream_host = value(&policy.upstream_host, "the backend's host");
        let gate = if policy.basic_authentication.is_empty() {
            None
        } else {
            match Gate::compile(policy, users, problems) {
                Ok(gate) => Some(gate),
                Err(problem) => {
                    refusal.get_or_insert(problem);
                    None
                }
            }
        };
        let allowed: Result<Vec<IpNet>, _> =
            policy.allowed_sources.iter().map(|network| network.parse()).collect();
        let allowed = allowed.unwrap_or_else(|_| {
            refusal.get_or_insert_with(|| "its list of sources is malformed".to_owned());
            Vec::new()
        });
        Arc::new(Self {
            source: Source(policy.clone(), users.cloned()),
            asks: true,
            connect_timeout: seconds(policy.connect_timeout_seconds),
            read_timeout: seconds(policy.read_timeout_seconds),
            send_timeout: seconds(policy.send_timeout_seconds),
            max_body: Some(policy.max_body_bytes).filter(|bytes| *bytes > 0),
            http2: policy.http2,
            rewrite: Some(policy.rewrite_target.as_str())
                .filter(|target| !target.is_empty())
                .map(Rewrite::parse),
            to_https: policy.redirect_to_https,
            redirect,
            app_root,
            allowed,
            users: gate,
            upstream_host,
            refusal,
        })
    }

    /// The gateway's own answer to a request that does not go on to a backend.
    pub(crate) async fn answer<B>(
        &self,
        request: &Request<B>,
        target: &Target,
        origin: Origin,
    ) -> Option<Response<ResponseBody>> {
        if !self.asks {
            return None;
        }
        if self.to_https && !origin.https {
            return Some(to_https(target));
        }
        if let Some((status, url)) = &self.redirect {
            return Some(redirect(*status, url.clone()));
        }
        if let Some(root) = self.app_root.as_ref().filter(|_| target.path() == "/") {
            return Some(redirect(StatusCode::FOUND, root.clone()));
        }
        if let Some(refusal) = &self.refusal {
            return Some(text(StatusCode::SERVICE_UNAVAILABLE, format!("nobody may pass here: {refusal}\n")));
        }
        if !self.allowed.is_empty() && !within(&self.allowed, origin.address) {
            return Some(text(StatusCode::FORBIDDEN, "this address may not pass here\n".to_owned()));
        }
        if let Some(gate) = &self.users
            // A browser asks beforehand whether it may send credentials, and sends none (CORS).
            && !is_preflight(request)
        {
            match gate.users.check(request.headers().get(AUTHORIZATION)).await {
                Verdict::Passed => {}
                Verdict::Wrong => return Some(gate.challenge()),
                Verdict::Busy => {
                    let line = "too many names and passwords are being checked\n".to_owned();
                    return Some(text(StatusCode::SERVICE_UNAVAILABLE, line));
                }
            }
        }
        let announced = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if let (Some(most), Some(length)) = (self.max_body, announced)
            && length > most
        {
            return Some(too_large(most));
        }
        None
    }

    /// Changes what the backend gets; `pattern` finds the groups in the path that was judged.
    pub(crate) fn apply<B>(
        &self,
        request: &mut Request<B>,
        target: &Target,
        pattern: Option<&regex::Regex>,
    ) -> Result<(), &'static str> {
        if let Some(host) = &self.upstream_host {
            request.headers_mut().insert(HOST, host.clone());
        }
        if let Some(rewrite) = &self.rewrite {
            let path = rewrite.apply(target.path(), target.passed.query(), pattern);
            let path = PathAndQuery::try_from(path).map_err(|_| "the rewritten path is malformed")?;
            *request.uri_mut() = Uri::from(path);
        }
        Ok(())
    }
}

impl Gate {
    fn compile(
        policy: &HttpPolicy,
        users: Option<&BasicAuthentication>,
        problems: &mut Vec<String>,
    ) -> Result<Self, String> {
        let secret = policy.basic_authentication.strip_prefix("basic/").unwrap_or_default();
        let list = match users {
            Some(list) if list.lost => {
                return Err(format!(
                    "the users in Secret {secret} are kept in memory only, and wait for the controller"
                ));
            }
            Some(list) => list,
            None => return Err(format!("its users are in Secret {secret}, which is not there")),
        };
        let (users, unreadable) = Users::parse(&list.users);
        problems.extend(unreadable.into_iter().map(|problem| format!("Secret {secret}: {problem}")));
        let realm: String =
            policy.realm.chars().filter(|letter| !letter.is_control() && letter.is_ascii()).collect();
        let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = HeaderValue::try_from(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
        Ok(Self { users, challenge: challenge.unwrap_or(HeaderValue::from_static("Basic")) })
    }

    fn challenge(&self) -> Response<ResponseBody> {
        let mut response =
            text(StatusCode::UNAUTHORIZED, "a name and a password are needed here\n".to_owned());
        response.headers_mut().insert(WWW_AUTHENTICATE, self.challenge.clone());
        response
    }
}

/// The answer to a body that is longer than the route allows.
pub(crate) fn too_large(most: u64) -> Response<ResponseBody> {
    let line = format!("the body is longer than {most} bytes, the most that is allowed here\n");
    text(StatusCode::PAYLOAD_TOO_LARGE, line)
}

fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key("access-control-request-method")
}

fn redirect(status: StatusCode, url: HeaderValue) -> Response<ResponseBody> {
    let mut response = text(status, String::new());
    response.headers_mut().insert(LOCATION, url);
    response
}

/// 308: method and body stay.
fn to_https(target: &Target) -> Response<ResponseBody> {
    let host = target.host();
    // A port of plain HTTP is none of HTTPS.
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if name.is_empty() {
        return text(StatusCode::BAD_REQUEST, "bad request: there is no host to redirect to\n".to_owned());
    }
    match HeaderValue::try_from(format!("https://{name}{}", target.passed.as_str())) {
        Ok(url) => redirect(StatusCode::PERMANENT_REDIRECT, url),
        Err(_) => text(StatusCode::BAD_REQUEST, "bad request: it cannot be redirected\n".to_owned()),
    }
}
