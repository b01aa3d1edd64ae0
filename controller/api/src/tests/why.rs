//! Why a pod is where it is, asked by a client.

use warren_vocabulary::member::{Member, MemberRole};

use super::*;

const PATH: &str = "/warren/v1/namespaces/default/pods/web/why";

/// A node that offers so much, as its machine reports it.
async fn node(server: &Server, name: &str, cidr: &str, cpu: &str) {
    let member = Member {
        name: name.into(),
        role: MemberRole::Node,
        pod_cidr: cidr.parse().unwrap(),
        public_key: None,
        endpoint: None,
        backend: None,
        mtu: None,
        machine: None,
        id: None,
    };
    let written = Transaction::new().create(Member::key(name), member.to_value());
    server.store.commit(written).await.unwrap();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    server.post("/api/v1/nodes", &node).await.expect(201);
    let offer = json!({"cpu": cpu, "memory": "4Gi", "pods": "110"});
    let status = json!({"status": {"capacity": offer, "allocatable": offer,
        "conditions": [{"type": "Ready", "status": "True"}]}});
    server.patch(&format!("/api/v1/nodes/{name}/status"), "merge-patch+json", &status).await.expect(200);
}

#[tokio::test]
async fn each_node_says_what_it_thinks_of_a_pod() {
    let server = Server::new().await;
    node(&server, "node-1", "10.42.1.0/24", "1").await;
    node(&server, "node-2", "10.42.2.0/24", "4").await;
    let mut wanted = pod("web");
    wanted["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}});
    server.post(PODS, &wanted).await.expect(201);
    let why = server.get(PATH).await.expect(200);
    assert_eq!((&why["namespace"], &why["name"]), (&json!("default"), &json!("web")));
    assert!(why.get("node").is_none() && why.get("message").is_none(), "{why}");
    assert_eq!((&why["nodes"][0]["name"], &why["nodes"][0]["fits"]), (&json!("node-2"), &json!(true)));
    assert_eq!(why["nodes"][0]["score"]["load"], json!({"resource": "cpu", "millionths": 500_000}));
    assert_eq!(
        why["nodes"][1],
        json!({"name": "node-1", "fits": false, "refusals": [{"filter": "NodeResourcesFit",
            "reason": "Insufficient cpu", "resource": "cpu", "requested": "2", "taken": "0", "allocatable": "1"}]})
    );
}

#[tokio::test]
async fn who_may_not_get_the_pod_may_not_ask_and_nobody_can_do_more_than_ask() {
    let server = Server::new().await;
    server.post(PODS, &pod("web")).await.expect(201);
    let why = server.get(PATH).await.expect(200);
    assert_eq!((&why["message"], &why["nodes"]), (&json!("no nodes available to schedule pods"), &json!([])));
    let stranger = PeerIdentity { common_name: "jane".into(), ..PeerIdentity::default() };
    let mut request = Server::request(Method::GET, PATH, &[], Body::empty());
    request.extensions_mut().insert(stranger);
    let refused = server.send(request).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"web\" is forbidden: User \"jane\" cannot get resource \"pods\" in API group \"\" in the namespace \
         \"default\""
    );
    let none = server.get("/warren/v1/namespaces/default/pods/none/why").await.expect(404);
    assert_eq!(none["message"], "pods \"none\" not found");
    server.put(PATH, &pod("web")).await.expect(405);
    server.patch(PATH, "merge-patch+json", &json!({"metadata": {"labels": {"a": "b"}}})).await.expect(405);
    server.delete(PATH, &json!({})).await.expect(405);
    server.get(&format!("{PATH}?watch=true")).await.expect(405);
    server.get(&format!("{PODS}/web")).await.expect(200);
    for path in ["/warren/v1/namespaces/default/services/web/why", "/warren/v1/namespaces/default/pods/web"] {
        server.get(path).await.expect(404);
    }
}
