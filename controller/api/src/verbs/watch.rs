//! GET with `watch=true`: the state, then every change, until the client or the time-out ends it.
//!
//! A watch reads the store's bounded history at the pace of its client and holds no queue of its own. A client that
//! is too slow for history gets the ERROR event 410 and starts over.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use rand::Rng;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use warren_objects::{ErrorKind, FieldError};
use warren_store::{Change, Event, Expired, Object};

use super::{list::select, stamp};
use crate::{
    engine::Engine,
    negotiate::{Negotiated, View},
    path::ResourceTarget,
    query::{ListOptions, Match},
    respond::{Content, Reply, with_type},
    selectors::Selector,
    server::Call,
    status::Status,
    table::{self, Include},
};

/// How often a watch that wants bookmarks gets one.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// How long a watch lasts when the client does not say; random, so that not all come back at once.
const LIFETIME_SECONDS: std::ops::Range<u64> = 1_800..3_600;
/// How many objects of the initial state are written at once.
const BATCH: usize = 100;

pub(crate) fn watch(
    engine: &Engine,
    call: &Call,
    form: Negotiated,
    include: Include,
) -> Result<Reply, Status> {
    let options = ListOptions::parse(&call.query)?;
    check(&options)?;
    let mut selector = Selector::parse(call.target.kind, &call.query)?;
    if !call.target.name.is_empty() {
        selector = selector.with_name(&call.target.name);
    }
    let feed = Feed { target: call.target.clone(), selector, view: form.view, include, columns_sent: false };
    let body = match open(engine, &feed, &options) {
        Ok(source) => {
            let lifetime =
                options.timeout_seconds.unwrap_or_else(|| rand::rng().random_range(LIFETIME_SECONDS));
            let end = Instant::now() + Duration::from_secs(lifetime.min(LIFETIME_SECONDS.end));
            let bookmark_at = options.bookmarks.then(|| Instant::now() + BOOKMARK_PERIOD);
            let watcher = Watcher { feed, source, bookmark_at, end, ended: false };
            Body::from_stream(stream::unfold(watcher, async |mut watcher| {
                let chunk = watcher.next().await?;
                Some((Ok::<_, std::convert::Infallible>(chunk), watcher))
            }))
        }
        Err(expired) => Body::from(error_event(expired)),
    };
    Ok(Reply::ok(Content::Stream { body, content_type: "application/json" }))
}

/// `sendInitialEvents` and `resourceVersionMatch` come together or not at all.
fn check(options: &ListOptions) -> Result<(), Status> {
    let why = match (options.send_initial_events, options.revision_match) {
        (true, Some(Match::NotOlderThan)) | (false, None) => return Ok(()),
        (true, _) => "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        (false, Some(_)) => {
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        }
    };
    let error = FieldError {
        field: "resourceVersionMatch".into(),
        kind: ErrorKind::Forbidden,
        value: None,
        detail: why.into(),
    };
    Err(Status::invalid_kind("meta.k8s.io", "ListOptions", "", &[error]))
}

/// Where the events come from: first the state, then history.
struct Source {
    initial: std::vec::IntoIter<Arc<Object>>,
    /// The bookmark that ends the initial state is still to be sent.
    mark_end: bool,
    initial_revision: u64,
    history: warren_store::Watch,
}

fn open(engine: &Engine, feed: &Feed, options: &ListOptions) -> Result<Source, Expired> {
    let snapshot = engine.snapshot();
    let wanted = options.revision.unwrap_or(0);
    let from_state = wanted == 0 || options.send_initial_events;
    if from_state && wanted > snapshot.revision {
        return Err(Expired { wanted, oldest: 0, newest: snapshot.revision });
    }
    let after = if from_state { snapshot.revision } else { wanted };
    let history = engine.store.watch(after)?;
    let initial: Vec<Arc<Object>> = if from_state {
        select(&snapshot, &feed.target, &feed.selector).cloned().collect()
    } else {
        Vec::new()
    };
    Ok(Source {
        initial: initial.into_iter(),
        mark_end: options.send_initial_events && options.bookmarks,
        initial_revision: after,
        history,
    })
}

fn error_event(expired: Expired) -> Bytes {
    let status =
        Status::expired(format!("too old resource version: {} ({})", expired.wanted, expired.oldest));
    line("ERROR", &status.to_value())
}

/// One event as it goes over the wire.
fn line(kind: &str, object: &Value) -> Bytes {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        object: &'a Value,
    }
    let mut out = serde_json::to_vec(&Line { kind, object }).unwrap_or_default();
    out.push(b'\n');
    out.into()
}

/// What a watch shows and in which form.
struct Feed {
    target: ResourceTarget,
    selector: Selector,
    view: View,
    include: Include,
    columns_sent: bool,
}

impl Feed {
    /// What a change is to this watch, if anything: entering the selection is ADDED, leaving it DELETED.
    fn event(&mut self, event: &Event, revision: u64) -> Option<Bytes> {
        let namespace = &self.target.namespace;
        if *event.key.resource != *self.target.kind.resource
            || (!namespace.is_empty() && *event.key.namespace != **namespace)
        {
            return None;
        }
        let selected = |object: &Option<Arc<Object>>| {
            object.as_ref().filter(|object| self.selector.matches(&object.value)).map(Arc::clone)
        };
        match (selected(&event.previous), selected(&event.current)) {
            (None, Some(now)) => Some(self.encode("ADDED", &now.value)),
            (Some(_), Some(now)) => Some(self.encode("MODIFIED", &now.value)),
            (Some(before), None) => {
                // The last state that was selected, at the revision at which it ended.
                let mut last = before.value.clone();
                stamp(&mut last, revision);
                Some(self.encode("DELETED", &last))
            }
            (None, None) => None,
        }
    }

    fn encode(&mut self, event: &str, object: &Value) -> Bytes {
        let kind = self.target.kind;
        match self.view {
            View::Object => line(event, &with_type(kind, object)),
            View::PartialMetadata(version) => line(event, &table::partial(version, object)),
            View::Table(version) => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let rows = std::iter::once(object);
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                line(
                    event,
                    &table::of(kind, version, rows, metadata, self.include, columns, Timestamp::now()),
                )
            }
        }
    }

    /// "You have seen everything up to here."
    fn bookmark(&mut self, revision: u64, ends_initial_state: bool) -> Bytes {
        let kind = self.target.kind;
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if ends_initial_state {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata});
        match self.view {
            View::Object => line("BOOKMARK", &object),
            View::PartialMetadata(version) => line("BOOKMARK", &table::partial(version, &object)),
            View::Table(version) => {
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                let rows = std::iter::empty();
                line(
                    "BOOKMARK",
                    &table::of(kind, version, rows, metadata, self.include, columns, Timestamp::now()),
                )
            }
        }
    }
}

/// A running watch.
struct Watcher {
    feed: Feed,
    source: Source,
    bookmark_at: Option<Instant>,
    end: Instant,
    ended: bool,
}

impl Watcher {
    /// The next bytes for the client; `None` ends the response.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(initial) = self.initial() {
            return Some(initial);
        }
        while !self.ended {
            let bookmark = async {
                match self.bookmark_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changes = self.source.history.next() => {
                    let bytes = self.changes(changes);
                    if !bytes.is_empty() {
                        return Some(bytes);
                    }
                }
                () = bookmark => {
                    self.bookmark_at = Some(Instant::now() + BOOKMARK_PERIOD);
                    return Some(self.feed.bookmark(self.source.history.position(), false));
                }
                () = sleep_until(self.end) => {
                    self.ended = true;
                    if self.bookmark_at.is_some() {
                        return Some(self.feed.bookmark(self.source.history.position(), false));
                    }
                }
            }
        }
        None
    }

    /// The next part of the initial state, its end included.
    fn initial(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        for object in self.source.initial.by_ref().take(BATCH) {
            out.extend_from_slice(&self.feed.encode("ADDED", &object.value));
        }
        if self.source.initial.len() == 0 && std::mem::take(&mut self.source.mark_end) {
            out.extend_from_slice(&self.feed.bookmark(self.source.initial_revision, true));
        }
        (!out.is_empty()).then(|| out.into())
    }

    fn changes(&mut self, changes: Result<Vec<Change>, Expired>) -> Bytes {
        let changes = match changes {
            Ok(changes) => changes,
            Err(expired) => {
                self.ended = true;
                return error_event(expired);
            }
        };
        // No changes: the store has closed.
        self.ended = changes.is_empty();
        let mut out = Vec::new();
        for change in &changes {
            for event in change.events.iter() {
                out.extend_from_slice(&self.feed.event(event, change.revision).unwrap_or_default());
            }
        }
        out.into()
    }
}
