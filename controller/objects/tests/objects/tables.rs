//! Golden tables: cells exactly as kubectl prints them.

use crate::samples::{ENDPOINTS, EVENT, INGRESS, NODE, REPLICA_SET, SLICE, served, yaml};
use jiff::Timestamp;
use serde_json::{Value, json};
use warren_objects::{defaults, table};

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// Column names and cells as two lines of text.
fn printed(resource: &str, value: &Value) -> String {
    let columns: Vec<_> = table::columns(served(resource)).iter().map(|column| column.name).collect();
    let cells: Vec<_> = table::row(served(resource), value, now())
        .iter()
        .map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned))
        .collect();
    format!("{}\n{}", columns.join(" | "), cells.join(" | "))
}

/// A pod of two containers with the given status.
fn pod(status: Value) -> Value {
    json!({
        "metadata": {"name": "web-0", "creationTimestamp": "2026-11-22T11:50:00Z"},
        "spec": {"nodeName": "node-1", "initContainers": [{"name": "i"}, {"name": "j"}],
            "containers": [{"name": "a"}, {"name": "b"}]},
        "status": status
    })
}

/// Ready, status and restarts of such a pod.
fn state(pod: &Value) -> String {
    let cells = table::row(served("pods"), pod, now());
    [&cells[1], &cells[2], &cells[3]].map(|cell| cell.as_str().unwrap()).join(" ")
}

fn container(state: Value) -> Value {
    json!({"name": "a", "ready": state.get("running").is_some(), "restartCount": 0, "state": state})
}

#[test]
fn a_running_pod() {
    let mut value = pod(json!({
        "phase": "Running", "podIP": "10.42.1.2", "podIPs": [{"ip": "10.42.1.2"}],
        "containerStatuses": [container(json!({"running": {}})), container(json!({"running": {}}))]
    }));
    value["status"]["containerStatuses"][1]["restartCount"] = json!(3);
    value["status"]["containerStatuses"][1]["lastState"] =
        json!({"terminated": {"finishedAt": "2026-11-22T11:58:00Z"}});
    assert_eq!(
        printed("pods", &value),
        "Name | Ready | Status | Restarts | Age | IP | Node | Nominated Node | Readiness Gates\n\
         web-0 | 2/2 | Running | 3 (2m ago) | 10m | 10.42.1.2 | node-1 | <none> | <none>"
    );
}

#[test]
fn pods_that_start() {
    assert_eq!(state(&pod(json!({"phase": "Pending"}))), "0/2 Pending 0");
    let creating = json!({"waiting": {"reason": "ContainerCreating"}});
    let value = pod(
        json!({"phase": "Pending", "containerStatuses": [container(creating.clone()), container(creating)]}),
    );
    assert_eq!(state(&value), "0/2 ContainerCreating 0");
    let waiting = json!({"waiting": {"reason": "PodInitializing"}});
    let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let init = |first: &Value, second: &Value| {
        pod(json!({"phase": "Pending",
            "initContainerStatuses": [container(first.clone()), container(second.clone())],
            "containerStatuses": [container(waiting.clone()), container(waiting.clone())]}))
    };
    assert_eq!(state(&init(&json!({"running": {}}), &waiting)), "0/2 Init:0/2 0");
    assert_eq!(state(&init(&done, &waiting)), "0/2 Init:1/2 0");
    assert_eq!(state(&init(&done, &done)), "0/2 PodInitializing 0");
    let failed = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    assert_eq!(state(&init(&failed, &waiting)), "0/2 Init:Error 0");
    assert_eq!(state(&init(&json!({"terminated": {"exitCode": 3}}), &waiting)), "0/2 Init:ExitCode:3 0");
    assert_eq!(
        state(&init(&json!({"terminated": {"signal": 9, "exitCode": 137}}), &waiting)),
        "0/2 Init:Signal:9 0"
    );
    let mut looping = init(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &waiting);
    looping["status"]["initContainerStatuses"][0]["restartCount"] = json!(2);
    assert_eq!(state(&looping), "0/2 Init:CrashLoopBackOff 2");
}

#[test]
fn pods_that_fail_end_and_go() {
    let two = |first: Value, second: Value| {
        pod(json!({"phase": "Running", "containerStatuses": [container(first), container(second)]}))
    };
    let running = json!({"running": {}});
    let completed = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    assert_eq!(
        state(&two(json!({"waiting": {"reason": "CrashLoopBackOff"}}), running.clone())),
        "1/2 CrashLoopBackOff 0"
    );
    assert_eq!(state(&two(json!({"terminated": {"exitCode": 3}}), running.clone())), "1/2 ExitCode:3 0");
    assert_eq!(state(&two(completed.clone(), running.clone())), "1/2 NotReady 0");
    let mut ready = two(completed.clone(), running.clone());
    ready["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    assert_eq!(state(&ready), "1/2 Running 0");
    let mut done = two(completed.clone(), completed);
    done["status"]["phase"] = json!("Succeeded");
    assert_eq!(state(&done), "0/2 Completed 0");
    done["metadata"]["deletionTimestamp"] = json!("2026-11-22T12:00:00Z");
    assert_eq!(state(&done), "0/2 Completed 0");
    let mut going = two(running.clone(), running);
    going["metadata"]["deletionTimestamp"] = json!("2026-11-22T12:00:00Z");
    assert_eq!(state(&going), "2/2 Terminating 0");
    going["status"]["reason"] = json!("NodeLost");
    assert_eq!(state(&going), "2/2 Unknown 0");
    assert_eq!(state(&pod(json!({"phase": "Failed", "reason": "Evicted"}))), "0/2 Evicted 0");
}

#[test]
fn workloads() {
    let value = yaml(
        "{metadata: {name: web, creationTimestamp: '2026-11-19T08:00:00Z'}, spec: {replicas: 3,
          selector: {matchLabels: {app: web, tier: front}},
          template: {spec: {containers: [{name: a, image: 'nginx:1'}, {name: b, image: busybox}]}}},
          status: {replicas: 4, readyReplicas: 2, updatedReplicas: 1, availableReplicas: 2}}",
    );
    assert_eq!(
        printed("deployments.apps", &value),
        "Name | Ready | Up-to-date | Available | Age | Containers | Images | Selector\n\
         web | 2/3 | 1 | 2 | 3d4h | a,b | nginx:1,busybox | app=web,tier=front"
    );
    assert_eq!(
        printed("replicasets.apps", &yaml(REPLICA_SET)),
        "Name | Desired | Current | Ready | Age | Containers | Images | Selector\n\
         frontend | 3 | 3 | 2 | 5h | php | redis:7 | tier in (frontend)"
    );
}

#[test]
fn services() {
    let cells = |text: &str| {
        let row = table::row(served("services"), &yaml(text), now());
        row[1..5].iter().map(|cell| cell.as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    let value = yaml(
        "{metadata: {name: web, creationTimestamp: '2026-11-22T11:57:57Z'}, spec: {type: ClusterIP,
          clusterIP: 10.43.0.7, selector: {app: web}, ports: [{port: 80, protocol: TCP}]}}",
    );
    assert_eq!(
        printed("services", &value),
        "Name | Type | Cluster-IP | External-IP | Port(s) | Age | Selector\n\
         web | ClusterIP | 10.43.0.7 | <none> | 80/TCP | 2m3s | app=web"
    );
    assert_eq!(
        cells(
            "spec: {type: NodePort, clusterIP: 10.43.0.7, ports: [{port: 80, nodePort: 30080, protocol: TCP}, {port: 53, protocol: UDP}]}"
        ),
        "NodePort 10.43.0.7 <none> 80:30080/TCP,53/UDP"
    );
    assert_eq!(cells("spec: {type: ClusterIP, clusterIP: None}"), "ClusterIP None <none> <none>");
    assert_eq!(
        cells("spec: {type: LoadBalancer, clusterIP: 10.43.0.7, ports: [{port: 80, protocol: TCP}]}"),
        "LoadBalancer 10.43.0.7 <pending> 80/TCP"
    );
    assert_eq!(
        cells(
            "{spec: {type: LoadBalancer, clusterIP: 10.43.0.7}, status: {loadBalancer: {ingress: [{ip: 1.2.3.4}, {hostname: x}]}}}"
        ),
        "LoadBalancer 10.43.0.7 1.2.3.4,x <none>"
    );
    assert_eq!(
        cells("spec: {type: ExternalName, externalName: example.com}"),
        "ExternalName <none> example.com <none>"
    );
}

#[test]
fn network_objects() {
    assert_eq!(
        printed("ingresses.networking.k8s.io", &yaml(INGRESS)),
        "Name | Class | Hosts | Address | Ports | Age\n\
         web | warren | a.example.com,*.b.example.com,c.example.com + 1 more... | 127.0.0.1 | 80, 443 | 60s"
    );
    let bare = yaml("{metadata: {name: web}, spec: {defaultBackend: {}}}");
    assert!(printed("ingresses.networking.k8s.io", &bare).ends_with("web | <none> | * |  | 80 | <unknown>"));
    assert_eq!(
        printed("endpointslices.discovery.k8s.io", &yaml(SLICE)),
        "Name | AddressType | Ports | Endpoints | Age\n\
         web-abc | IPv4 | 80,53 | 10.42.1.2,10.42.2.2,10.42.3.2 + 1 more... | 60s"
    );
    assert_eq!(
        printed("endpoints", &yaml(ENDPOINTS)),
        "Name | Endpoints | Age\nweb | 10.42.1.2:80,10.42.2.2:80,10.42.1.2:53 + 1 more... | 60s"
    );
    for (subsets, expected) in [
        ("[]", "<none>"),
        ("[{notReadyAddresses: [{ip: 10.42.1.2}], ports: [{port: 80}]}]", ""),
        ("[{addresses: [{ip: 10.42.1.2}]}]", "10.42.1.2"),
        ("[{addresses: [{ip: 'fd00::1'}], ports: [{port: 80}]}]", "[fd00::1]:80"),
    ] {
        assert_eq!(
            table::row(served("endpoints"), &yaml(&format!("subsets: {subsets}")), now())[1],
            expected
        );
    }
    assert!(
        printed("endpointslices.discovery.k8s.io", &yaml("{addressType: IPv4}"))
            .ends_with("IPv4 | <unset> | <unset> | <unknown>")
    );
}

#[test]
fn nodes() {
    let mut value = yaml(NODE);
    assert_eq!(
        printed("nodes", &value),
        "Name | Status | Roles | Age | Version | Internal-IP | External-IP | OS-Image | Kernel-Version | Container-Runtime\n\
         node-1 | Ready,SchedulingDisabled | worker | 2d4h | v1.34.0+warren | 172.18.0.3 | <none> | Debian GNU/Linux 12 | 6.1.0 | docker://20.10.24"
    );
    value["status"]["conditions"][0]["status"] = json!("Unknown");
    value["spec"] = json!({});
    value["metadata"]["labels"] = json!({});
    let cells = table::row(served("nodes"), &value, now());
    assert_eq!((&cells[1], &cells[2]), (&json!("NotReady"), &json!("<none>")));
    assert_eq!(table::row(served("nodes"), &json!({}), now())[1], "Unknown");
}

#[test]
fn the_rest() {
    assert_eq!(
        printed("events", &yaml(EVENT)),
        "Last Seen | Type | Reason | Object | Subobject | Source | Message | First Seen | Count | Name\n\
         30s | Warning | BackOff | pod/web-0 | spec.containers{web} | warren-agent, node-1 | \
         Back-off restarting failed container | 60m | 5 | web-0.17"
    );
    let line = |resource: &str, text: &str| {
        let mut value = yaml(text);
        defaults::apply(served(resource), &mut value);
        printed(resource, &value)
    };
    assert_eq!(
        line("namespaces", "metadata: {name: shop}"),
        "Name | Status | Age\nshop | Active | <unknown>"
    );
    assert_eq!(
        line("configmaps", "{metadata: {name: c}, data: {a: x, b: y}, binaryData: {c: AA==}}"),
        "Name | Data | Age\nc | 3 | <unknown>"
    );
    assert_eq!(
        line("secrets", "{metadata: {name: s}, stringData: {a: x}}"),
        "Name | Type | Data | Age\ns | Opaque | 1 | <unknown>"
    );
    assert_eq!(
        line("serviceaccounts", "metadata: {name: default}"),
        "Name | Secrets | Age\ndefault | 0 | <unknown>"
    );
}
