//! GET with `watch=true`: the state, then every change, until the client or the time-out ends it.
//!
//! A watch reads the store's bounded history at the pace of its client and holds no queue of its own: a part of the
//! answer is made when the one before is on its way. A client that is too slow for history gets the ERROR event 410
//! and starts over.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use warren_store::{Change, Event, Expired, Object};

use super::list::select;
use crate::{
    encode::{CHUNK, CLOSING, Form, Shown},
    negotiate::{Negotiated, View},
    path::ResourceTarget,
    query::ListOptions,
    respond::{Content, Reply},
    selectors::Selector,
    server::Call,
    state::ApiState,
    status::Status,
    table::Include,
};

/// How often a watch that wants bookmarks gets one.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// How long a watch lasts when the client does not say; random, so that not all come back at once.
const LIFETIME_SECONDS: std::ops::Range<u64> = 1_800..3_600;
/// No watch lasts longer than this.
const LONGEST_SECONDS: u64 = 24 * 3_600;

pub(crate) async fn watch(
    api: &ApiState,
    call: &Call,
    form: Negotiated,
    include: Include,
) -> Result<Reply, Status> {
    let options = ListOptions::parse(&call.query)?;
    options.check_watch()?;
    let kind = &call.target.kind;
    let mut selector = Selector::parse(kind, &call.query)?;
    if !call.target.name.is_empty() {
        selector = selector.with_name(&call.target.name);
    }
    let form = Form { kind: Arc::clone(kind), view: form.view, include, now: Timestamp::now() };
    let feed = Feed { target: call.target.clone(), selector, form, columns_sent: false };
    let body = match open(api, &feed, &options).await {
        Ok(source) => {
            Body::from_stream(stream::unfold(Watcher::new(feed, source, &options), async |mut w| {
                let part = w.next().await?;
                Some((Ok::<_, Infallible>(part), w))
            }))
        }
        Err(expired) => Body::from(error_event(expired)),
    };
    Ok(Reply::ok(Content::Stream { body, content_type: "application/json" }))
}

/// Where the events come from: first the state, then history.
struct Source {
    initial: std::vec::IntoIter<Arc<Object>>,
    /// The bookmark that ends the initial state is still to be sent.
    mark_end: bool,
    initial_revision: u64,
    /// Changes that were read and not yet sent.
    pending: std::vec::IntoIter<Change>,
    history: warren_store::Watch,
}

async fn open(api: &ApiState, feed: &Feed, options: &ListOptions) -> Result<Source, Expired> {
    let snapshot = api.snapshot();
    let wanted = options.revision.unwrap_or(0);
    let wants_state = options.send_initial_events.unwrap_or(wanted == 0);
    let from_now = wants_state || wanted == 0;
    if from_now && wanted > snapshot.revision {
        return Err(Expired { wanted, oldest: 0, newest: snapshot.revision });
    }
    let after = if from_now { snapshot.revision } else { wanted };
    let history = api.store.watch(after)?;
    let initial: Vec<Arc<Object>> = if wants_state {
        select(&snapshot, &feed.target, &feed.selector).cloned().collect()
    } else {
        Vec::new()
    };
    Ok(Source {
        initial: initial.into_iter(),
        mark_end: options.send_initial_events == Some(true) && options.bookmarks,
        initial_revision: after,
        pending: Vec::new().into_iter(),
        history,
    })
}

fn error_event(expired: Expired) -> Bytes {
    let status =
        Status::expired(format!("too old resource version: {} ({})", expired.wanted, expired.oldest));
    let mut out = Vec::new();
    line("ERROR", &mut out, |out| out.extend_from_slice(status.to_json().as_bytes()));
    out.into()
}

/// One event as it goes over the wire.
fn line(event: &str, out: &mut Vec<u8>, object: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object(out);
    out.extend_from_slice(b"}\n");
}

/// What a watch shows and in which form.
struct Feed {
    target: ResourceTarget,
    selector: Selector,
    form: Form,
    columns_sent: bool,
}

impl Feed {
    /// What a change is to this watch, if anything: entering the selection is ADDED, leaving it DELETED.
    fn write_event(&mut self, event: &Event, revision: u64, out: &mut Vec<u8>) {
        let namespace = &self.target.namespace;
        if *event.key.resource != *self.target.kind.resource
            || (!namespace.is_empty() && *event.key.namespace != **namespace)
        {
            return;
        }
        let last = || event.departed(revision).cloned();
        self.write_turn(event.previous.as_ref(), event.current.as_ref(), last, out);
    }

    /// One object, before and after; `last` is its last state, at the revision at which it ended.
    fn write_turn(
        &mut self,
        before: Option<&Arc<Object>>,
        after: Option<&Arc<Object>>,
        last: impl FnOnce() -> Option<Arc<Object>>,
        out: &mut Vec<u8>,
    ) {
        let selected = |object: &&Arc<Object>| -> bool { self.selector.matches(&object.value) };
        match (before.filter(selected), after.filter(selected)) {
            (None, Some(now)) => self.write("ADDED", now, out),
            (Some(_), Some(now)) => self.write("MODIFIED", now, out),
            (Some(_), None) => last().iter().for_each(|last| self.write("DELETED", last, out)),
            (None, None) => {}
        }
    }

    fn write(&mut self, event: &str, object: &Object, out: &mut Vec<u8>) {
        let with_columns = !std::mem::replace(&mut self.columns_sent, true);
        // Ages are those of the moment.
        self.form.now = Timestamp::now();
        line(event, out, |out| self.form.write_one(Shown::Stored(object), with_columns, out));
    }

    /// "You have seen everything up to here."
    fn write_bookmark(&mut self, revision: u64, ends_initial_state: bool, out: &mut Vec<u8>) {
        let kind = &self.target.kind;
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if ends_initial_state {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let with_columns = !std::mem::replace(&mut self.columns_sent, true);
        line("BOOKMARK", out, |out| match self.form.view {
            View::Table(_) => {
                self.form.write_opening(&metadata, with_columns, out);
                out.extend_from_slice(CLOSING);
            }
            _ => {
                let object: Value =
                    json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata});
                self.form.write_bare(&object, out);
            }
        });
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
    fn new(feed: Feed, source: Source, options: &ListOptions) -> Self {
        let given = options.timeout_seconds.filter(|seconds| *seconds > 0);
        let lifetime = given.unwrap_or_else(|| rand::rng().random_range(LIFETIME_SECONDS));
        let end = Instant::now() + Duration::from_secs(lifetime.min(LONGEST_SECONDS));
        let bookmark_at = options.bookmarks.then(|| Instant::now() + BOOKMARK_PERIOD);
        Self { feed, source, bookmark_at, end, ended: false }
    }

    /// The next part of the answer; `None` ends it.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let ready = self.ready();
            if !ready.is_empty() {
                return Some(ready.into());
            }
            if self.ended {
                return None;
            }
            let bookmark = async {
                match self.bookmark_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changes = self.source.history.next() => match changes {
                    // No changes: the store has closed.
                    Ok(changes) => {
                        self.ended = changes.is_empty();
                        self.source.pending = changes.into_iter();
                    }
                    Err(expired) => {
                        self.ended = true;
                        return Some(error_event(expired));
                    }
                },
                () = bookmark => {
                    self.bookmark_at = Some(Instant::now() + BOOKMARK_PERIOD);
                    return Some(self.bookmark());
                }
                () = sleep_until(self.end) => {
                    self.ended = true;
                    if self.bookmark_at.is_some() {
                        return Some(self.bookmark());
                    }
                }
            }
        }
    }

    fn bookmark(&mut self) -> Bytes {
        let mut out = Vec::new();
        self.feed.write_bookmark(self.source.history.position(), false, &mut out);
        out.into()
    }

    /// What can be sent without waiting: the rest of the initial state and its end, then changes; a part of them.
    fn ready(&mut self) -> Vec<u8> {
        let Source { initial, mark_end, initial_revision, pending, .. } = &mut self.source;
        let mut out = Vec::new();
        while out.len() < CHUNK
            && let Some(object) = initial.next()
        {
            self.feed.write("ADDED", &object, &mut out);
        }
        if initial.len() == 0 && std::mem::take(mark_end) {
            self.feed.write_bookmark(*initial_revision, true, &mut out);
        }
        while out.len() < CHUNK
            && let Some(change) = pending.next()
        {
            for event in change.events.iter() {
                self.feed.write_event(event, change.revision, &mut out);
            }
        }
        out
    }
}
