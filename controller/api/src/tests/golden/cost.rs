//! Request path cost: what a read may touch, and how often an object is made into text.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, Key as MetricKey, KeyName, Metadata, Recorder, SharedString, Unit};
use warren_store::{BoxFuture, CommitError, Expired, Key, Object, Snapshot, Store, Transaction, Watch};

use super::*;

/// State without a disk: there is nothing to be touched. Only readers of snapshots get along with it.
#[derive(Default)]
pub(super) struct Memory(Arc<Snapshot>);

impl Store for Memory {
    fn commit(&self, _: Transaction) -> BoxFuture<'_, Result<u64, CommitError>> {
        panic!("a read does not write")
    }
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0)
    }
    fn watch(&self, _: u64) -> Result<Watch, Expired> {
        panic!("a read of the present needs no history")
    }
}

/// Counts encodings on this thread, which is the only one of a test's runtime.
#[derive(Default)]
struct Encodings(Arc<AtomicU64>);

impl Encodings {
    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl Recorder for Encodings {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &MetricKey, _: &Metadata<'_>) -> Counter {
        if key.name() == "warren_store_encodings_total" {
            return Counter::from_arc(Arc::clone(&self.0));
        }
        Counter::noop()
    }
    fn register_gauge(&self, _: &MetricKey, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &MetricKey, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn many(count: usize) -> Memory {
    let pods = (0..count).map(|number| {
        let name = format!("p{number:05}");
        let mut value = pod(&name);
        value["metadata"]["namespace"] = json!("default");
        Object::new(Key::new("pods", "default", &name), 7, value)
    });
    Memory(Arc::new(Snapshot::from_objects(7, pods)))
}

#[tokio::test]
async fn reads_touch_memory_alone() {
    let router = serve(Arc::new(many(3)));
    for path in [
        format!("{PODS}/p00001"),
        PODS.to_owned(),
        "/api/v1/pods?labelSelector=app".to_owned(),
        format!("{PODS}?limit=1"),
        format!("{PODS}?resourceVersion=7&resourceVersionMatch=Exact"),
        "/apis".to_owned(),
    ] {
        for accept in [JSON, TABLE, PARTIAL] {
            let request = Server::request(Method::GET, &path, &[("accept", accept)], Body::empty());
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            response.into_body().collect().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_long_list_is_made_while_it_is_sent() {
    const COUNT: usize = 10_000;
    let router = serve(Arc::new(many(COUNT)));
    for accept in [JSON, TABLE, PARTIAL_LIST] {
        let request = Server::request(Method::GET, PODS, &[("accept", accept)], Body::empty());
        let mut body = router.clone().oneshot(request).await.unwrap().into_body();
        let (mut largest, mut frames, mut whole) = (0, 0, Vec::new());
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            largest = largest.max(data.len());
            frames += 1;
            whole.extend_from_slice(&data);
        }
        assert!(largest < crate::encode::CHUNK + 4_096, "{accept}: a part of {largest} bytes");
        assert!(frames >= whole.len() / (crate::encode::CHUNK + 4_096), "{accept}: {frames} parts");
        let list: Value = serde_json::from_slice(&whole).unwrap();
        let items = if accept == TABLE { &list["rows"] } else { &list["items"] };
        assert_eq!(items.as_array().unwrap().len(), COUNT);
    }
}

#[tokio::test]
async fn an_object_is_encoded_once_however_many_look() {
    let encodings = Encodings::default();
    let _counting = metrics::set_default_local_recorder(&encodings);
    let server = Server::new().await;
    let revision = server.revision();
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={revision}");
    let mut watchers = Vec::new();
    for _ in 0..100 {
        watchers.push(Events::open(&server, &path, JSON).await);
    }
    encodings.take();
    let created = server.post(CONFIG_MAPS, &config_map("a", json!({"k": "v"}))).await.expect(201);
    server.patch(&map_path("a"), MERGE, &json!({"data": {"k": "w"}})).await.expect(200);
    for watcher in &mut watchers {
        assert_eq!(watcher.next().await.unwrap(), json!({"type": "ADDED", "object": created}));
        assert_eq!(watcher.next().await.unwrap()["type"], "MODIFIED");
    }
    server.get(&map_path("a")).await.expect(200);
    server.get(CONFIG_MAPS).await.expect(200);
    assert_eq!(encodings.take(), 0, "the commit's text, which the store's thread made, serves all");
    server.delete(&map_path("a"), &json!({})).await.expect(200);
    for watcher in &mut watchers {
        assert_eq!(watcher.next().await.unwrap()["type"], "DELETED");
    }
    assert_eq!(encodings.take(), 1, "the last state at its new revision, once");

    server.post(CONFIG_MAPS, &config_map("b", json!({}))).await.expect(201);
    let server = server.restart().await;
    encodings.take();
    for _ in 0..3 {
        server.get(&map_path("b")).await.expect(200);
        server.get(CONFIG_MAPS).await.expect(200);
    }
    assert_eq!(encodings.take(), 1, "after a restart, once somebody asks");
}
