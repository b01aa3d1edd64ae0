//! One request: who, what, may they, do it, answer.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use serde_json::Value;
use tokio::time::Instant;
use warren_objects::Registry;
use warren_runtime::tls::PeerIdentity;
use warren_store::Transaction;
use warren_write::{Actor, Author, User};

use crate::{
    auth,
    body::{Received, Sender},
    discovery,
    kinds::Source,
    negotiate, openapi,
    path::{self, ResourceTarget, Target},
    query::Query,
    respond::{self, Reply},
    reviews,
    state::ApiState,
    status::Status,
    streams, subresources,
    table::Include,
    verbs, why,
};

/// How long the store may take to answer a readiness check.
const READY_PATIENCE: Duration = Duration::from_secs(2);

/// A request for objects, read as far as all verbs need it.
pub(crate) struct Call {
    pub(crate) target: ResourceTarget,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Who asks.
    pub(crate) user: User,
}

impl Call {
    /// Who writes, and as which field manager: the one that is named, or else the client's program.
    pub(crate) fn author(&self) -> Author<'_> {
        let agent = self.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        let program = agent.and_then(|agent| agent.split('/').next()).unwrap_or_default();
        let named = self.query.text("fieldManager").filter(|name| !name.is_empty());
        Author { actor: Actor::Client(&self.user), manager: named.unwrap_or(program) }
    }
}

/// The one handler.
pub(crate) async fn handle(State(api): State<Arc<ApiState>>, request: Request) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query());
    let registry = api.gate.registry(&api.snapshot());
    let target = path::parse(&registry, parts.uri.path());
    let verb = verb(&parts.method, target.as_ref(), &query);
    let resource = match &target {
        Some(Target::Resource(target)) => target.kind.resource.clone(),
        _ => "".into(),
    };
    let response = match dispatch(&api, &registry, &parts, body, query, target, verb).await {
        Ok(response) => response,
        Err(status) => {
            tracing::debug!(method = %parts.method, path = parts.uri.path(), code = status.code, message = status.message, "request refused");
            respond::error(&status)
        }
    };
    let code = response.status().as_u16().to_string();
    metrics::counter!("warren_api_requests_total", "verb" => verb, "resource" => resource.clone(), "code" => code)
        .increment(1);
    metrics::histogram!("warren_api_request_seconds", "verb" => verb, "resource" => resource)
        .record(started.elapsed());
    response
}

/// Kubernetes' name for what is asked; for paths that are no resources, the method.
fn verb(method: &Method, target: Option<&Target>, query: &Query) -> &'static str {
    let collection = match target {
        Some(Target::Resource(target)) => target.name.is_empty(),
        _ => {
            return match *method {
                Method::GET | Method::HEAD => "get",
                Method::POST => "post",
                Method::PUT => "put",
                Method::PATCH => "patch",
                Method::DELETE => "delete",
                Method::OPTIONS => "options",
                _ => "other",
            };
        }
    };
    // A user who may make a connection into a pod may do it by either method.
    if streams::serves(target) && matches!(*method, Method::GET | Method::POST) {
        return "create";
    }
    // A malformed `watch` is reported by the verb itself.
    let watch = query.flag("watch").unwrap_or(false);
    match *method {
        Method::GET | Method::HEAD if watch => "watch",
        Method::GET | Method::HEAD if collection => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        _ => "other",
    }
}

async fn dispatch(
    api: &Arc<ApiState>,
    registry: &Registry,
    parts: &Parts,
    body: Body,
    query: Query,
    target: Option<Target>,
    verb: &'static str,
) -> Result<Response, Status> {
    let access = api.gate.access(&api.snapshot());
    let user = match auth::bearer(api, parts)? {
        Some(user) => auth::impersonate(user, &parts.headers, &access)?,
        None => auth::authenticate(parts.extensions.get::<PeerIdentity>(), &parts.headers, &access)?,
    };
    auth::authorize(&access, &user, verb, target.as_ref(), parts.uri.path(), &query)?;
    drop(access);
    let target = target.ok_or_else(|| Status::not_served(parts.uri.path()))?;
    if streams::serves(Some(&target)) && verb == "create" {
        return streams::open(api, parts, &target, &query).await;
    }
    if streams::serves_log(Some(&target), parts) && verb == "get" {
        return streams::open(api, parts, &target, &query).await;
    }
    if streams::serves_proxy(Some(&target)) {
        if verb == "other" && parts.method != Method::OPTIONS {
            return Err(Status::method_not_allowed());
        }
        return streams::pass_on(api, parts.clone(), &target, body).await;
    }
    if let Target::Resource(target) = target {
        let received = match verb {
            "get" | "list" | "watch" => Received::default(),
            // Everybody with a name may ask; who may write anything has been let in by name.
            _ => {
                let is_question = matches!(target.kind.source, Source::Answered);
                let sender = if user.is_master() {
                    Sender::Administrator
                } else if user.is_authenticated() && !is_question {
                    Sender::Writer
                } else {
                    Sender::Asker
                };
                api.bodies.read(body, sender).await?
            }
        };
        let (headers, body) = (parts.headers.clone(), received.bytes.clone());
        let response = resource(api, Call { target, query, headers, body, user }, verb).await;
        // Its room is given back when nothing is left to be made of it.
        drop(received);
        return response;
    }
    if verb != "get" {
        return Err(Status::method_not_allowed());
    }
    match target {
        Target::Health { endpoint, check } => health(api, endpoint, check.as_deref(), &query).await,
        Target::OpenIdConfiguration => Ok(public(&api.tokens.configuration(), "application/json")),
        Target::KeySet => Ok(public(&api.tokens.key_set(), "application/jwk-set+json")),
        Target::OpenApiV2 | Target::OpenApiV3 | Target::OpenApiV3GroupVersion(..) => {
            open_api(target, query, parts.headers.clone()).await
        }
        other => {
            documents(registry, &other, &parts.headers).ok_or_else(|| Status::not_served(parts.uri.path()))
        }
    }
}

/// What may be kept for an hour by whoever asked for it.
fn public(value: &Value, content_type: &str) -> Response {
    let mut response = respond::document(value, content_type);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

/// Paths that answer with a fixed document.
fn documents(registry: &Registry, target: &Target, headers: &HeaderMap) -> Option<Response> {
    let json = |value: Value| respond::document(&value, "application/json");
    let aggregated = discovery::wants_aggregated(headers);
    let aggregate = |core: bool, version: &str| {
        respond::document(
            &discovery::aggregated(registry, core, version),
            &discovery::aggregated_content_type(version),
        )
    };
    Some(match target {
        Target::Version => json(discovery::version()),
        Target::CoreVersions => match aggregated {
            Some(version) => aggregate(true, version),
            None => {
                let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
                json(discovery::core_versions(host))
            }
        },
        Target::Groups => match aggregated {
            Some(version) => aggregate(false, version),
            None => json(discovery::groups(registry)),
        },
        Target::Group(name) => json(discovery::group(registry, name)?),
        Target::GroupVersion(group, version) => json(discovery::resources(registry, group, version)?),
        Target::Health { .. }
        | Target::OpenIdConfiguration
        | Target::KeySet
        | Target::OpenApiV2
        | Target::OpenApiV3
        | Target::OpenApiV3GroupVersion(..)
        | Target::Resource(_) => return None,
    })
}

/// Schemas. Making the first of them takes a moment, which no other request shall notice.
async fn open_api(target: Target, query: Query, headers: HeaderMap) -> Result<Response, Status> {
    let made = tokio::task::spawn_blocking(move || match target {
        Target::OpenApiV2 => openapi::v2(&headers),
        Target::OpenApiV3GroupVersion(group, version) => openapi::v3(&group, &version, &query, &headers),
        _ => openapi::v3_index(&headers),
    });
    made.await.map_err(|error| Status::internal(format!("cannot make the document: {error}")))?
}

/// Health: the process answers; readiness: the store does too.
async fn health(
    api: &ApiState,
    endpoint: &str,
    check: Option<&str>,
    query: &Query,
) -> Result<Response, Status> {
    let mut checks: Vec<(&str, Result<(), String>)> = vec![("ping", Ok(()))];
    if endpoint != "livez" {
        let probe = tokio::time::timeout(READY_PATIENCE, api.store.commit(Transaction::new())).await;
        checks.push((
            "store",
            match probe {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {} s", READY_PATIENCE.as_secs())),
            },
        ));
    }
    if let Some(wanted) = check {
        checks.retain(|(name, _)| *name == wanted);
        if checks.is_empty() {
            return Err(Status::unknown_path());
        }
    }
    let (healthy, text) = discovery::health_report(endpoint, &checks, query.flag("verbose")?);
    let code = if healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    Ok(respond::bytes(code, text, "text/plain; charset=utf-8"))
}

/// Objects, collections and subresources.
async fn resource(api: &Arc<ApiState>, call: Call, verb: &str) -> Result<Response, Status> {
    if call.target.why {
        return why::answer(api, &call, verb).await;
    }
    let kind = &call.target.kind;
    call.query.flag("watch")?;
    let form = negotiate::negotiate(&call.headers);
    if let Some(subresource) = call.target.subresource {
        // Logs are text whatever the client accepts.
        let form = if subresource.name == "log" { negotiate::negotiate(&HeaderMap::new())? } else { form? };
        let reply = subresources::call(api, &call, subresource.name, verb).await?;
        return respond::render(kind, form, Include::parse(&call.query)?, reply);
    }
    if !kind.verbs.contains(&verb) {
        return Err(Status::not_allowed_for(kind));
    }
    let form = form?;
    let include = Include::parse(&call.query)?;
    if matches!(kind.source, Source::Answered) {
        let form = negotiate::whole(&call.headers)?;
        return respond::render(kind, form, include, reviews::answer(api, &call)?);
    }
    let named = !call.target.name.is_empty();
    let addressed = named || !call.target.namespace.is_empty() || !kind.namespaced;
    let reply: Reply = match verb {
        "get" => verbs::get(api, &call).await?,
        "list" => verbs::list(api, &call).await?,
        "watch" => verbs::watch(api, &call, form, include).await?,
        "create" if !named && addressed => verbs::create(api, &call).await?,
        "update" if named => verbs::update(api, &call).await?,
        "patch" if named => verbs::patch(api, &call).await?,
        "delete" => verbs::delete(api, &call).await?,
        "deletecollection" if addressed => verbs::delete_collection(api, &call).await?,
        _ => return Err(Status::method_not_allowed()),
    };
    respond::render(kind, form, include, reply)
}
