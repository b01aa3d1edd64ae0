//! GET of a collection: selectors, revisions, pages.

use std::sync::Arc;

use jiff::Timestamp;
use warren_store::{Object, Snapshot};

use crate::{
    continuations::Token,
    path::ResourceTarget,
    query::{ListOptions, Match},
    respond::{Content, List, Reply},
    selectors::Selector,
    server::Call,
    state::{ApiState, shown},
    status::Status,
};

pub(crate) async fn list(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let options = ListOptions::parse(&call.query)?;
    options.check_list()?;
    let selector = Selector::parse(&call.target.kind, &call.query)?;
    Ok(Reply::ok(Content::List(chosen(api, call, &options, &selector).await?)))
}

/// What the options of a list choose of what a selector selects.
pub(super) async fn chosen(
    api: &ApiState,
    call: &Call,
    options: &ListOptions,
    selector: &Selector,
) -> Result<List, Status> {
    let token = options.continuation.as_deref().map(Token::decode).transpose()?;
    let snapshot = state(api, options, token.as_ref()).await?;
    let contents = shown(api, &call.target.kind, Arc::clone(&snapshot), &call.target.namespace);
    let page = page(&contents, &call.target, selector, options.limit, token.as_ref());
    if page.continuation.is_some() {
        api.continuations.keep(&snapshot);
    }
    Ok(page)
}

/// The state that the list shows.
async fn state(
    api: &ApiState,
    options: &ListOptions,
    token: Option<&Token>,
) -> Result<Arc<Snapshot>, Status> {
    let current = api.snapshot();
    let wanted = options.revision.unwrap_or(0);
    if let Some(token) = token {
        if wanted != 0 {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return continued(api, current, token).await;
    }
    if wanted > current.revision {
        return Err(Status::revision_too_large(wanted, current.revision));
    }
    if options.revision_match != Some(Match::Exact) {
        return Ok(current);
    }
    let newest = current.revision;
    api.at(current, wanted).await.ok_or_else(|| {
        Status::expired(format!("The resourceVersion for the provided list is too old: {wanted} ({newest})"))
    })
}

/// The state that the pages before showed. When it is gone, the client may go on from the same place in the present
/// one: that token is in the error.
async fn continued(api: &ApiState, current: Arc<Snapshot>, token: &Token) -> Result<Arc<Snapshot>, Status> {
    if token.revision == Token::ANY_REVISION {
        return Ok(current);
    }
    let kept = if token.is_expired(Timestamp::now()) { None } else { api.at(current, token.revision).await };
    kept.ok_or_else(|| {
        let rest = Token { revision: Token::ANY_REVISION, ..token.clone() };
        Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results. Continuing with the provided token results in an inconsistent list - objects that were \
             created, modified, or deleted between the time the first chunk was returned and now may show up in the \
             list.",
        )
        .with_continuation(rest.encode())
    })
}

/// All objects that a path and a selector name.
pub(super) fn select<'a>(
    snapshot: &'a Snapshot,
    target: &'a ResourceTarget,
    selector: &'a Selector,
) -> Box<dyn Iterator<Item = &'a Arc<Object>> + 'a> {
    let resource: &str = &target.kind.resource;
    if target.namespace.is_empty() {
        Box::new(snapshot.list(resource).filter(|object| selector.matches(&object.value)))
    } else {
        let objects = snapshot.list_namespace(resource, &target.namespace);
        Box::new(objects.filter(|object| selector.matches(&object.value)))
    }
}

fn page(
    snapshot: &Snapshot,
    target: &ResourceTarget,
    selector: &Selector,
    limit: usize,
    token: Option<&Token>,
) -> List {
    let after = |object: &Object| {
        token.is_none_or(|token| {
            (&*object.key.namespace, &*object.key.name) > (&*token.namespace, &*token.name)
        })
    };
    let mut rest = select(snapshot, target, selector).filter(|object| after(object)).cloned();
    let objects: Vec<Arc<Object>> = rest.by_ref().take(if limit == 0 { usize::MAX } else { limit }).collect();
    let remaining = if limit == 0 { 0 } else { rest.count() };
    let continuation = objects.last().filter(|_| remaining > 0).map(|last| {
        let (namespace, name) = (last.key.namespace.to_string(), last.key.name.to_string());
        Token { revision: snapshot.revision, namespace, name, at: Timestamp::now().as_second() }.encode()
    });
    let remaining = selector.is_empty().then_some(remaining);
    List { objects, revision: snapshot.revision, continuation, remaining }
}
