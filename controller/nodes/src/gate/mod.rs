//! The gate before the services: who calls is known from the head of a request, before any of its body is read.
//!
//! ```text
//!  request ──► path: which bounds? ──► certificate, store, machine: who? ──► open calls, rate ──► service
//!                  │                        │                                                        │
//!                  └─ unknown: refused      └─ a stranger reaches Join alone          body: length, count, time
//! ```

mod body;
mod calls;
mod policy;

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use tonic::Status;

pub(crate) use calls::Calls;
pub(crate) use policy::LONGEST;

use crate::{Nodes, control, identity::Caller};
use body::{Incoming, Outgoing};
use policy::{Policy, Who};

/// Lets in what may come in.
pub(crate) async fn pass(State(nodes): State<Arc<Nodes>>, request: Request, next: Next) -> Response {
    match admit(&nodes, request, next).await {
        Ok(response) => response,
        Err(status) => status.into_http(),
    }
}

async fn admit(nodes: &Arc<Nodes>, request: Request, next: Next) -> Result<Response, Status> {
    let policy = policy::of(request.uri().path());
    if let Some(policy) = policy.filter(|policy| policy.who == Who::Anyone) {
        let request = request.map(|body| Body::new(Incoming::new(body, policy, None)));
        return answer(policy, request, next).await;
    }
    let caller = Caller::of(request.extensions(), request.headers(), &nodes.store.snapshot())?;
    // From here on the caller is a member; what it asks for is the next question.
    let policy = policy.ok_or_else(|| Status::unimplemented("there is no such method"))?;
    if !policy.who.includes(caller.role) {
        return Err(Status::permission_denied(format!(
            "{} is a gateway; only nodes may do this",
            caller.name
        )));
    }
    control::check_machine(nodes, &caller)?;
    nodes.adopt(&caller).await?;
    let snapshot = nodes.store.snapshot();
    let (call, wait) = nodes.calls.begin(&caller, policy, &snapshot, Instant::now())?;
    // A member that was removed while it was let in: that life would begin anew by the call.
    caller.check(&nodes.store.snapshot())?;
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let ended = call.ended().clone();
    let mut request = request.map(|body| Body::new(Incoming::new(body, policy, Some(ended))));
    request.extensions_mut().insert(caller);
    let response = answer(policy, request, next).await?;
    Ok(response.map(|body| Body::new(Outgoing::new(body, call))))
}

async fn answer(policy: &Policy, request: Request, next: Next) -> Result<Response, Status> {
    let answered = next.run(request);
    match policy.deadline {
        None => Ok(answered.await),
        Some(deadline) => tokio::time::timeout(deadline, answered).await.map_err(|_| {
            Status::deadline_exceeded(format!("the call was not complete within {} s", deadline.as_secs()))
        }),
    }
}
