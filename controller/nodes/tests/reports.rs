//! Reports over a real connection: what agents observed ends up in the store.

mod harness;

use harness::{Controller, Member};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tonic::Code;
use warren_proto::{
    control::{
        ContainerState, ContainerStatus, ContainerUsage, EventReport, NetworkReport, NodeReport, PodAnswers,
        PodStatus, PodUsage, PodsReport, Role, Running, ServiceTraffic, Terminated, TrafficReport, Usage,
        UsageReport, container_state::State,
    },
    vocabulary::WireGuardKey,
};

use warren_store::{Key, Snapshot, Store as _};
use warren_vocabulary::ClusterConfig;
use warren_write::{
    Actor, Gate, Refusal, Review, Verb,
    chain::{self, Step},
};

async fn bound_pod(controller: &Controller, name: &str, node: &str, metadata: Value) {
    let mut all = json!({"name": name, "uid": format!("uid-{name}")});
    all.as_object_mut().expect("an object").extend(metadata.as_object().expect("an object").clone());
    let spec =
        json!({"nodeName": node, "restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]});
    controller.put("pods", "default", json!({"apiVersion": "v1", "kind": "Pod", "metadata": all, "spec": spec, "status": {"podIP": "10.42.1.2"}})).await;
}

fn running(name: &str) -> PodStatus {
    let state = State::Running(Running { started_at: "2026-01-01T00:00:00Z".into() });
    PodStatus {
        uid: format!("uid-{name}"),
        namespace: "default".into(),
        name: name.into(),
        attached: true,
        containers: vec![ContainerStatus {
            name: "c".into(),
            ready: true,
            started: true,
            state: Some(ContainerState { state: Some(state) }),
            ..ContainerStatus::default()
        }],
        ..PodStatus::default()
    }
}

async fn report(member: &mut Member, pods: Vec<PodStatus>, events: Vec<EventReport>) {
    let request = member.request(PodsReport { pods, events });
    member.client.report_pods(request).await.expect("reported");
}

fn phase(controller: &Controller, name: &str) -> Value {
    controller.get("pods", "default", name).expect("a pod").value["status"]["phase"].clone()
}

#[tokio::test]
async fn a_report_becomes_the_status_of_own_pods_only() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    for i in 0..40 {
        bound_pod(&controller, &format!("p{i}"), "node-1", json!({})).await;
    }
    bound_pod(&controller, "foreign", "node-2", json!({})).await;
    let mut pods: Vec<_> = (0..40).map(|i| running(&format!("p{i}"))).collect();
    pods.extend([running("foreign"), running("unknown"), PodStatus { uid: "other".into(), ..running("p1") }]);
    report(&mut member, pods.clone(), vec![]).await;
    assert!((0..40).all(|i| phase(&controller, &format!("p{i}")) == "Running"));
    assert_eq!(phase(&controller, "foreign"), Value::Null);
    let revision = controller.store.snapshot().revision;
    report(&mut member, pods, vec![]).await;
    assert_eq!(controller.store.snapshot().revision, revision, "the same again writes nothing");
}

#[tokio::test]
async fn a_pod_ends_only_when_it_was_deleted_and_is_gone() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30});
    bound_pod(&controller, "kept", "node-1", json!({})).await;
    bound_pod(&controller, "ended", "node-1", deleted.clone()).await;
    let mut held = deleted;
    held["finalizers"] = json!(["example.com/wait"]);
    bound_pod(&controller, "held", "node-1", held).await;
    let gone = |name: &str| PodStatus { gone: true, ..running(name) };
    report(&mut member, vec![gone("kept"), gone("ended"), gone("held")], vec![]).await;
    assert!(controller.get("pods", "default", "kept").is_some());
    assert!(controller.get("pods", "default", "ended").is_none());
    let held = controller.get("pods", "default", "held").expect("its finalizer keeps it");
    assert_eq!(held.value["metadata"]["deletionGracePeriodSeconds"], 0);
    report(&mut member, vec![gone("ended")], vec![]).await;
}

#[tokio::test]
async fn events_of_own_pods_are_counted() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    bound_pod(&controller, "web", "node-1", json!({})).await;
    let event = EventReport {
        pod_uid: "uid-web".into(),
        pod_namespace: "default".into(),
        pod_name: "web".into(),
        reason: "BackOff".into(),
        message: "back-off".into(),
        warning: true,
        ..EventReport::default()
    };
    let foreign = EventReport { pod_name: "nobody".into(), ..event.clone() };
    report(&mut member, vec![], vec![event.clone(), event.clone(), foreign]).await;
    report(&mut member, vec![], vec![event]).await;
    let snapshot = controller.store.snapshot();
    let events: Vec<_> = snapshot.list("events").collect();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0].value["count"], &events[0].value["involvedObject"]["name"]),
        (&json!(3), &json!("web"))
    );
}

#[tokio::test]
async fn a_node_report_fills_the_node_and_makes_it_again_when_it_is_missing() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let info = NodeReport {
        cpu_millis: 2000,
        memory_bytes: 1 << 30,
        max_pods: 110,
        internal_ip: "192.0.2.1".into(),
        runtime_ready: true,
        ..NodeReport::default()
    };
    member.client.report_node(member.request(info.clone())).await.expect("reported");
    let node = controller.get("nodes", "", "node-1").expect("a node");
    assert_eq!(node.value["status"]["capacity"]["cpu"], "2");
    assert_eq!(node.value["status"]["conditions"][0]["type"], "ContainerRuntimeReady");
    member.client.report_node(member.request(info.clone())).await.expect("reported");
    assert_eq!(controller.get("nodes", "", "node-1").map(|node| node.revision), Some(node.revision));
    controller.delete("nodes", "", "node-1").await;
    member.client.report_node(member.request(info.clone())).await.expect("reported");
    let again = controller.get("nodes", "", "node-1").expect("made again");
    assert_eq!(again.value["spec"]["podCIDR"], node.value["spec"]["podCIDR"]);

    bound_pod(&controller, "web", "node-1", json!({})).await;
    report(&mut member, vec![running("web")], vec![]).await;
    assert_eq!(
        controller.get("pods", "default", "web").expect("a pod").value["status"]["hostIP"],
        "192.0.2.1"
    );

    let mut gateway = controller.member("gw", Role::Gateway).await;
    let status = gateway.client.report_node(gateway.request(info)).await.expect_err("no node");
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_status_survives_writers_that_come_between() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    bound_pod(&controller, "web", "node-1", json!({})).await;
    let label = async {
        for i in 0..20 {
            loop {
                let pod = controller.get("pods", "default", "web").expect("a pod");
                let mut value = pod.value.clone();
                value["metadata"]["labels"] = json!({"i": i.to_string()});
                let transaction =
                    warren_store::Transaction::new().replace(pod.key.clone(), pod.revision, value);
                if warren_store::Store::commit(&*controller.store, transaction).await.is_ok() {
                    break;
                }
            }
        }
    };
    let statuses = async {
        for i in 0..20 {
            let mut status = running("web");
            status.containers[0].restart_count = i;
            report(&mut member, vec![status], vec![]).await;
        }
    };
    tokio::join!(label, statuses);
    let pod = controller.get("pods", "default", "web").expect("a pod");
    assert_eq!(pod.value["metadata"]["labels"]["i"], "19");
    assert_eq!(pod.value["status"]["containerStatuses"][0]["restartCount"], 19);
}

#[tokio::test]
async fn a_node_that_lies_about_itself_changes_nothing_that_others_decide_by() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    controller.member("node-2", Role::Node).await;
    let lie =
        NodeReport { hostname: "node-2".into(), internal_ip: "127.0.0.1".into(), ..NodeReport::default() };
    member.client.report_node(member.request(lie)).await.expect("stored");
    let node = controller.get("nodes", "", "node-1").expect("a node");
    assert_eq!(node.value["metadata"]["labels"]["kubernetes.io/hostname"], "node-1");
    assert_eq!(node.value["status"]["addresses"], json!([{"type": "Hostname", "address": "node-1"}]));
    for text in ["not an address", "192.0.2.1; reboot", "node-2"] {
        let lie = NodeReport { internal_ip: text.into(), ..NodeReport::default() };
        let refused = member.client.report_node(member.request(lie)).await.expect_err(text);
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with("internal_ip: "), "{refused}");
    }
    let lie = NetworkReport {
        public_key: WireGuardKey([7; 32]).to_string(),
        backend: "magic".into(),
        ..NetworkReport::default()
    };
    let refused = member.client.report_network(member.request(lie)).await.expect_err("no such backend");
    assert!(refused.message().starts_with("backend: "), "{refused}");
}

#[tokio::test]
async fn what_a_node_says_is_cut_and_its_events_do_not_fill_the_store() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    bound_pod(&controller, "web", "node-1", json!({})).await;
    let mut status = running("web");
    status.message = "m".repeat(300 << 10);
    let terminated = Terminated { message: "t".repeat(300 << 10), ..Terminated::default() };
    status.containers[0].last_state = Some(ContainerState { state: Some(State::Terminated(terminated)) });
    let event = |number: usize| EventReport {
        pod_uid: "uid-web".into(),
        pod_namespace: "default".into(),
        pod_name: "web".into(),
        reason: format!("Made{number}"),
        message: "e".repeat(4_000),
        ..EventReport::default()
    };
    report(&mut member, vec![status], vec![event(0)]).await;
    let pod = controller.get("pods", "default", "web").expect("a pod");
    assert_eq!(pod.value["status"]["message"].as_str().map(str::len), Some(32 << 10));
    let last = pod.value["status"]["containerStatuses"][0]["lastState"]["terminated"]["message"].as_str();
    assert_eq!(last.map(str::len), Some(4_096));
    let snapshot = controller.store.snapshot();
    let stored = snapshot.list("events").next().expect("an event");
    assert_eq!(stored.value["message"].as_str().map(str::len), Some(1_024));

    for batch in 0..15 {
        report(&mut member, vec![], (0..100).map(|number| event(batch * 100 + number)).collect()).await;
    }
    let events = controller.store.snapshot().list("events").count();
    assert!((900..1_400).contains(&events), "{events} of 1,500");
}

/// Notes what nodes write, and refuses one pod's status while it is told to.
struct Witness {
    seen: Arc<Mutex<Vec<(String, Verb, String)>>>,
    refuses: Arc<AtomicBool>,
}

impl Step for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }

    fn review(&self, _: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
        if let Actor::Node(node) = review.author.actor {
            self.seen.lock().expect("unharmed").push((node.to_owned(), review.verb, review.key.to_string()));
        }
        if review.verb == Verb::UpdateStatus && review.name() == "bad" && self.refuses.load(Ordering::Relaxed)
        {
            return Err(Refusal::forbidden(review.kind, review.name(), "not now"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn reports_pass_the_gate_and_one_that_is_refused_holds_up_nobody_and_is_not_lost() {
    let (seen, refuses) = (Arc::default(), Arc::new(AtomicBool::new(true)));
    let mut chain = chain::standard(&ClusterConfig::default());
    chain.push(Box::new(Witness { seen: Arc::clone(&seen), refuses: Arc::clone(&refuses) }));
    let controller = Controller::start_behind(Gate::with_chain(chain), ClusterConfig::default()).await;
    let mut member = controller.member("node-1", Role::Node).await;
    for name in ["bad", "good"] {
        bound_pod(&controller, name, "node-1", json!({})).await;
    }
    report(&mut member, vec![running("bad"), running("good")], vec![]).await;
    assert_eq!((phase(&controller, "bad"), phase(&controller, "good")), (Value::Null, json!("Running")));
    let failures = controller.nodes.failures();
    assert!(
        matches!(&failures[..], [failure] if &*failure.key.name == "bad"
            && failure.message == "pods \"bad\" is forbidden: not now"),
        "{failures:?}"
    );
    let saw = |verb: Verb, key: &str| {
        let wanted = ("node-1".to_owned(), verb, key.to_owned());
        seen.lock().expect("unharmed").contains(&wanted)
    };
    assert!(saw(Verb::Create, "nodes/node-1") && saw(Verb::UpdateStatus, "pods/default/good"));
    // Nobody reports again: it is remembered here.
    refuses.store(false, Ordering::Relaxed);
    let written = async {
        while phase(&controller, "bad") != "Running" || !controller.nodes.failures().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(harness::PATIENCE, written).await.expect("the report is tried again");
}

#[tokio::test]
async fn usage_of_own_pods_and_traffic_of_services_are_kept_in_memory_alone() {
    let controller = Controller::start().await;
    let mut node = controller.member("node-1", Role::Node).await;
    let mut gateway = controller.member("gw", Role::Gateway).await;
    for name in ["b", "a"] {
        bound_pod(&controller, name, "node-1", json!({})).await;
    }
    bound_pod(&controller, "foreign", "node-2", json!({})).await;
    let web = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    controller.put("services", "default", web).await;
    let revision = controller.store.snapshot().revision;
    let usage = |cpu_nanos| Some(Usage { cpu_nanos, memory_bytes: u64::MAX });
    let container = |name: &str, nanos| ContainerUsage { name: name.into(), usage: usage(nanos) };
    let pod = |name: &str| PodUsage {
        uid: format!("uid-{name}"),
        namespace: "default".into(),
        name: name.into(),
        containers: vec![container("c", 7), container("odd", 8), container("c", 9)],
    };
    let pods = ["b", "a", "foreign", "none", "b"].map(pod).to_vec();
    let report = UsageReport { window_milliseconds: 10_000, node: usage(u64::MAX), pods };
    node.client.report_usage(node.request(report.clone())).await.expect("reported");
    let answers = |name: &str, requests, failures| PodAnswers { name: name.into(), requests, failures };
    let told = |name: &str, rate| ServiceTraffic {
        namespace: "default".into(),
        name: name.into(),
        requests_per_thousand_seconds: rate,
        pods: vec![
            answers("web-5d4f-abcde", 10, u64::MAX),
            answers("web-5d4f-fghij", u64::MAX, 1),
            answers("bare", 5, 5),
            answers(&"x".repeat(1_000), 5, 5),
        ],
    };
    let traffic = TrafficReport { services: vec![told("web", u64::MAX), told("none", 1)] };
    gateway.client.report_traffic(gateway.request(traffic.clone())).await.expect("reported");
    let traffic_again = traffic.clone();
    let refused = node.client.report_traffic(node.request(traffic)).await.expect_err("no gateway");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = gateway.client.report_usage(gateway.request(report)).await.expect_err("no node");
    assert_eq!(refused.code(), Code::PermissionDenied);

    let known = controller.nodes.measurements();
    let report = &known.nodes["node-1"].report;
    let uids: Vec<_> = report.pods.iter().map(|pod| pod.uid.as_str()).collect();
    assert_eq!(uids, ["uid-a", "uid-b"], "its own, in order, each once");
    assert_eq!(report.pods[0].containers.len(), 1);
    let most = report.pods[0].containers[0].usage.expect("told");
    assert_eq!((most.cpu_nanos, most.memory_bytes), (7, 1 << 56), "no more than any machine has");
    assert_eq!(report.node.expect("told").cpu_nanos, 1_000_000_000_000_000);
    let traffic: Vec<_> = known.gateways["gw"].iter().collect();
    let service = Key::new("services", "default", "web");
    assert_eq!(traffic, [(&service, &1_000_000_000_000)], "of services that are there");
    let windows: Vec<_> = known.windows.iter().flat_map(|window| window.iter()).collect();
    let maker = warren_plan::maker("default", "web-5d4f-zzzzz").expect("it says who made it");
    let answered = warren_plan::Answered { requests: 1_000_000_010, failures: 11 };
    assert_eq!(windows, [(&maker, &answered)], "by who made the pods, no more than there can be");
    for _ in 0..20 {
        gateway.client.report_traffic(gateway.request(traffic_again.clone())).await.expect("reported");
    }
    let windows = controller.nodes.answers().windows;
    assert!(windows.len() <= 8, "{}", windows.len());
    assert_eq!(controller.store.snapshot().revision, revision, "nothing is stored");
    for member in ["node-1", "gw"] {
        assert!(controller.nodes.remove_member(member).await.expect("removed"));
    }
    let forgotten = async {
        while !controller.nodes.measurements().nodes.is_empty()
            || !controller.nodes.measurements().gateways.is_empty()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(harness::PATIENCE, forgotten).await.expect("a member that was removed is forgotten");
}
