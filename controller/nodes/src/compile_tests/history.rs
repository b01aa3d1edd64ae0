//! Whatever happened, step by step gives the same as afresh, and who follows the changes holds what is there.

use proptest::prelude::*;

use super::{work::Seen, *};
use crate::views::Position;

/// One of a handful of objects that refer to each other, in one of a few variants.
fn make(id: u8, variant: u8, revision: u64) -> Object {
    let text = variant.to_string();
    let backend =
        json!({"service": {"name": if variant == 1 { "web" } else { "other" }, "port": {"number": 80}}});
    let made = match id {
        0 => member("n", if variant == 2 { "gateway" } else { "node" }, 1 + variant / 2, Some("k")),
        1 => member("m", "node", 3, (variant > 0).then_some("k2")),
        2 => pod(json!({
            "containers": [{"name": "c", "image": format!("i{variant}"), "envFrom": [{"configMapRef": {"name": "m"}}]}],
        })),
        3 => of_its_own(
            "pods",
            json!({"name": "two", "uid": format!("two-{variant}"), "creationTimestamp": format!("2026-01-0{}T00:00:00Z", variant + 1)}),
            json!({
                "nodeName": if variant == 1 { "m" } else { "n" },
                "containers": [{"name": "c", "image": "i", "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a", "optional": true}}},
                    {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                ]}],
            }),
        ),
        4 => config_map("m", json!({"a": text})),
        5 => {
            let data = json!({"a": format!("Y{}==", ["Q", "g", "w"][usize::from(variant)]), "tls.crt": "YQ==", "tls.key": "YQ=="});
            object(SECRETS, "shop", 1, json!({"metadata": {"name": "s"}, "data": data}))
        }
        6 => of_its_own(
            "services",
            json!({"name": "web", "creationTimestamp": format!("2026-01-0{}T00:00:00Z", 3 - variant)}),
            json!({"clusterIP": "10.43.0.20", "ports": [{"name": "http", "port": 80 + i32::from(variant)}]}),
        ),
        7 => of_its_own(
            "services",
            json!({"name": "other", "annotations": {"note": text}, "creationTimestamp": "2026-01-01T00:00:00Z"}),
            if variant == 2 {
                json!({"type": "ExternalName", "externalName": "web.shop.svc", "ports": [{"name": "http", "port": 80}]})
            } else {
                json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]})
            },
        ),
        8 => slice(
            if variant == 2 { "other" } else { "web" },
            json!([endpoint(&format!("10.42.1.{variant}"), true, true, false)]),
        ),
        9 => {
            let mut second = slice(
                "web",
                json!([endpoint(&format!("10.42.2.{variant}"), variant > 0, true, variant == 0)]),
            )
            .value;
            second["metadata"]["name"] = "web-2".into();
            object(ENDPOINTSLICES, "shop", 1, second.clone())
        }
        10 => ingress(
            json!({"ingressClassName": "mine", "defaultBackend": backend, "tls": [{"hosts": ["a.test"], "secretName": "s"}]}),
        ),
        11 => {
            let mut second = ingress(json!({"defaultBackend": backend, "tls": [{"secretName": "s"}]})).value;
            second["metadata"]["name"] = "second".into();
            object(INGRESSES, "shop", 1, second.clone())
        }
        12 => object(
            INGRESSCLASSES,
            "",
            1,
            json!({
                "metadata": {"name": "mine"}, "spec": {"controller": if variant == 1 { "other" } else { "warren.dev/gateway" }},
            }),
        ),
        13 => {
            object(NODES, "", 1, json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": text}}}))
        }
        _ => {
            let spec = json!({"clusterIP": "10.43.0.1", "ports": [{"port": 443 + i32::from(variant)}]});
            object(SERVICES, "default", 1, json!({"metadata": {"name": "kubernetes"}, "spec": spec}))
        }
    };
    Object::new(made.key.clone(), revision, made.value)
}

const OBJECTS: u8 = 15;

fn of_its_own(resource: &str, metadata: Value, spec: Value) -> Object {
    object(resource, "shop", 1, json!({"metadata": metadata, "spec": spec, "status": {"podIP": "10.42.1.9"}}))
}

/// A consumer that applies what it is sent.
struct Follower {
    member: &'static str,
    consumer: Consumer,
    position: Option<Position>,
    held: BTreeMap<String, FeedItem>,
}

impl Follower {
    fn follow(&mut self, published: &Published, revision: u64) {
        let Some(selection) = published.select(self.member, self.consumer) else {
            (self.position, self.held) = (None, BTreeMap::new());
            return;
        };
        let parts = match &mut self.position {
            Some(position) => position.advance(selection),
            None => {
                let (position, parts) = Position::open(selection, revision);
                self.position = Some(position);
                parts
            }
        };
        let mut arriving = BTreeMap::new();
        for part in parts {
            let batch = crate::batches::Batch::new(1, part).decode();
            let upserts = batch.upserts.into_iter().map(|item| (item.key.clone(), item));
            if batch.snapshot {
                arriving.extend(upserts);
                if batch.complete {
                    self.held = std::mem::take(&mut arriving);
                }
            } else {
                self.held.extend(upserts);
                batch.deletes.iter().for_each(|key| assert!(self.held.remove(key).is_some(), "{key}"));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    /// From now on we fail on the object.
    Poison(u8),
    /// The compiler failed between objects, and begins anew.
    Forget,
    Publish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..OBJECTS, 0u8..3).prop_map(|(id, variant)| Step::Put(id, variant)),
        4 => (0..OBJECTS).prop_map(Step::Delete),
        1 => (0..OBJECTS).prop_map(Step::Poison),
        1 => Just(Step::Forget),
        8 => Just(Step::Publish),
    ]
}

/// Of an object that we fail on it is only asked that the others do not notice.
fn comparable(feeds: &Feeds, poisoned: &BTreeSet<Key>) -> BTreeMap<String, FeedItem> {
    let fails = |id: u8| poisoned.contains(&make(id, 0, 1).key);
    let is_left_out = |key: &str| {
        let secrets = key.starts_with("tls/") && (fails(5) || fails(10) || fails(11));
        let pods = key == "pod/u" && fails(2) || key.starts_with("pod/two") && fails(3);
        let services = key == "service/default/kubernetes" && fails(14)
            || key == "service/shop/web" && fails(6)
            || key == "service/shop/other" && fails(7);
        let routes = key.starts_with("route/shop/front/") && fails(10)
            || key.starts_with("route/shop/second/") && fails(11);
        secrets || pods || services || routes
    };
    let named = feeds.iter().flat_map(|((member, consumer), items)| {
        items.iter().map(move |item| (format!("{member} {consumer:?} {}", item.key), item))
    });
    named.filter(|(_, item)| !is_left_out(&item.key)).map(|(name, item)| (name, item.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn step_by_step_is_as_afresh(steps in prop::collection::vec(step(), 1..60)) {
        let seen = Arc::new(Seen::default());
        let mut kept = Kept::watched(Arc::clone(&seen) as Arc<dyn Progress>);
        let mut state = Snapshot::from_objects(1, []);
        let mut followers = [
            ("n", Consumer::Agent), ("n", Consumer::Netd), ("m", Consumer::Agent), ("m", Consumer::Netd), ("m", Consumer::Gateway),
        ]
        .map(|(member, consumer)| Follower { member, consumer, position: None, held: BTreeMap::new() });
        for step in steps.into_iter().chain([Step::Publish]) {
            state.revision += 1;
            match step {
                Step::Put(id, variant) => {
                    let object = make(id, variant, state.revision);
                    // Whatever is written is another attempt.
                    seen.poisoned.lock().remove(&object.key);
                    state.insert(Arc::new(object));
                }
                Step::Delete(id) => { state.remove(&make(id, 0, 1).key); }
                Step::Poison(id) => {
                    let object = make(id, 1, state.revision);
                    seen.poisoned.lock().insert(object.key.clone());
                    state.insert(Arc::new(object));
                }
                Step::Forget => kept.compiler.forget(),
                Step::Publish => {
                    let stepwise = kept.compile(&state);
                    let afresh = Kept::watched(Arc::clone(&seen) as Arc<dyn Progress>).compile(&state);
                    let poisoned = seen.poisoned.lock().clone();
                    prop_assert_eq!(comparable(&stepwise.feeds, &poisoned), comparable(&afresh.feeds, &poisoned));
                    // What an Ingress that we fail on has claimed of Secrets is only known to who saw it before.
                    let failures = |compiled: &Compiled| {
                        let failures = compiled.failures.iter().filter(|failure| &*failure.key.resource != SECRETS);
                        failures.cloned().collect::<Vec<_>>()
                    };
                    prop_assert_eq!(failures(&stepwise), failures(&afresh));
                    for follower in &mut followers {
                        follower.follow(&kept.published, state.revision);
                        let feed = stepwise.feeds.get(&(follower.member.to_owned(), follower.consumer));
                        let feed: BTreeMap<_, _> =
                            feed.into_iter().flatten().map(|item| (item.key.clone(), item.clone())).collect();
                        prop_assert_eq!(&follower.held, &feed, "{} {:?}", follower.member, follower.consumer);
                    }
                }
            }
        }
    }
}
