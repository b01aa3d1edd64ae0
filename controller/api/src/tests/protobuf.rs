//! Bodies in protobuf, as kubectl 1.32 and Go's serializer made them (`objects/tests/objects/protobuf`).

use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The line of a name.
fn line(text: &str, name: &str) -> Value {
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.find(|line| line["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// A body that Go's serializer made.
fn go(name: &str) -> Vec<u8> {
    let line = line(include_str!("../../../objects/tests/objects/protobuf/go_rules.jsonl"), name);
    STANDARD.decode(line["body"].as_str().unwrap()).unwrap()
}

impl Server {
    async fn protobuf(&self, method: Method, path: &str, body: Vec<u8>) -> Answer {
        // As client-go: a fallback for the answer, which is JSON.
        let accept = "application/vnd.kubernetes.protobuf,application/json";
        let headers = [("content-type", PROTOBUF), ("accept", accept)];
        self.send(Self::request(method, path, &headers, body)).await
    }
}

/// What two clients get who create the same object, one in each encoding, differs in nothing but what is unique.
fn without_what_is_unique(object: &Value) -> Value {
    // The selector of a Job names its uid, too.
    let uid = object["metadata"]["uid"].as_str().unwrap();
    let mut object: Value = serde_json::from_str(&object.to_string().replace(uid, "its-uid")).unwrap();
    for unique in ["creationTimestamp", "resourceVersion"] {
        assert!(object["metadata"].as_object_mut().unwrap().remove(unique).is_some(), "{object}");
    }
    for address in ["clusterIP", "clusterIPs"] {
        object["spec"].as_object_mut().map(|spec| spec.remove(address));
    }
    object
}

#[tokio::test]
async fn what_kubectl_creates_is_what_its_json_creates() {
    let (first, second) = (Server::new().await, Server::new().await);
    let mut created = 0;
    for text in include_str!("../../../objects/tests/objects/protobuf/kubectl.jsonl").lines() {
        let line: Value = serde_json::from_str(text).unwrap();
        let (name, path) = (line["name"].as_str().unwrap(), line["path"].as_str().unwrap());
        let body = STANDARD.decode(line["body"].as_str().unwrap()).unwrap();
        let by_json = second.post(path, &line["json"]).await;
        let strict = format!("{path}?fieldValidation=Strict");
        let by_protobuf = first.protobuf(Method::POST, &strict, body).await;
        assert_eq!(by_protobuf.code, by_json.code, "{name}: {:?}", by_protobuf.body);
        if by_json.code == StatusCode::CREATED && by_json.json()["metadata"].get("uid").is_some() {
            let (left, right) = (by_protobuf.json(), by_json.json());
            assert_eq!(without_what_is_unique(&left), without_what_is_unique(&right), "{name}");
            created += 1;
        }
    }
    assert!(created >= 10, "{created}");
}

#[tokio::test]
async fn pointers_to_zero_survive_and_zeros_get_defaults() {
    let server = Server::new().await;
    let body = go("pointers to zero are said, zeros without a pointer are not");
    let strict = format!("{DEPLOYMENTS}?dryRun=All");
    let refused = server.protobuf(Method::POST, &strict, body).await.expect(422);
    // The object breaks rules on purpose; that the rules were judged shows that all of it was read.
    let causes = refused["details"]["causes"].to_string();
    assert!(causes.contains("containers[0].ports[0].containerPort"), "{refused}");
    let eviction = server.post(PODS, &pod("p")).await;
    assert_eq!(eviction.expect(201)["spec"]["terminationGracePeriodSeconds"], 30);
}

#[tokio::test]
async fn updates_scales_and_statuses() {
    let server = Server::new().await;
    server.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web");
    let scaled = server.protobuf(Method::PUT, &format!("{path}/scale"), go("a scale")).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 0);
    let reported = server.protobuf(Method::PUT, &format!("{path}/status"), go("a status")).await.expect(200);
    assert_eq!(reported["status"]["readyReplicas"], 2);
    assert_eq!(reported["spec"]["replicas"], 0, "a status changes nothing else");
    let wrong = server.protobuf(Method::PUT, &format!("{path}/scale"), go("a status")).await.expect(400);
    assert!(
        wrong["message"].as_str().unwrap().contains("does not match the expected kind (Scale)"),
        "{wrong}"
    );
    // An object of another kind is refused before it is judged.
    let wrong = server.protobuf(Method::PUT, &path, go("a scale")).await.expect(400);
    assert!(wrong["message"].as_str().unwrap().contains("(Scale) does not match"), "{wrong}");
}

#[tokio::test]
async fn bindings_evictions_and_deletions() {
    let server = Server::new().await;
    let node = json!({"metadata": {"name": "n1"}});
    server.post("/api/v1/nodes", &node).await.expect(201);
    server.post(PODS, &pod("p")).await.expect(201);
    let path = format!("{PODS}/p");
    server.protobuf(Method::POST, &format!("{path}/binding"), go("a binding")).await.expect(201);
    assert_eq!(server.get(&path).await.expect(200)["spec"]["nodeName"], "n1");
    // The precondition of the corpus is a pointer to an empty text: said, and not met.
    let evicted = server.protobuf(Method::POST, &format!("{path}/eviction"), go("an eviction")).await;
    let message = evicted.expect(409)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("in the precondition () does not match"), "{message}");
    assert!(server.get(&path).await.expect(200)["metadata"].get("deletionTimestamp").is_none());
    server.protobuf(Method::DELETE, &path, go("options of a deletion")).await.expect(200);
    server.get(&path).await.expect(200); // foreground: held by a finalizer
    let wrong = server.protobuf(Method::DELETE, &path, go("an eviction")).await.expect(400);
    assert!(wrong["message"].as_str().unwrap().contains("DeleteOptions"), "{wrong}");
}

#[tokio::test]
async fn what_cannot_be_read_or_answered_is_refused() {
    let server = Server::new().await;
    let body = go("texts beside bytes");
    let patched = server.protobuf(Method::PATCH, &format!("{CONFIG_MAPS}/c"), body.clone()).await.expect(415);
    assert_eq!(patched["reason"], "UnsupportedMediaType");
    let cut = server.protobuf(Method::POST, CONFIG_MAPS, body[..body.len() - 3].to_vec()).await.expect(400);
    assert!(cut["message"].as_str().unwrap().contains("ends in the middle of a value"), "{cut}");
    let headers = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    server.send(Server::request(Method::POST, CONFIG_MAPS, &headers, body)).await.expect(406);
    server.get(&format!("{CONFIG_MAPS}/c")).await.expect(404);
}

/// Two bytes make an empty container, which takes two kilobytes when it is typed.
#[tokio::test]
async fn small_bodies_do_not_become_large_objects() {
    let server = Server::new().await;
    let containers = vec![json!({}); 50_000];
    let large = json!({"metadata": {"name": "p"}, "spec": {"containers": containers}});
    let refused = server.post(PODS, &large).await.expect(413);
    assert!(refused["message"].as_str().unwrap().contains("20000 objects in lists"), "{refused}");
    // The same in protobuf: field 2, empty, many times, in field 2 of the object in field 2 of the envelope.
    let length = |bytes: usize| {
        let low = |shift: usize| (bytes >> shift) as u8 & 0x7f;
        [0x12, low(0) | 0x80, low(7) | 0x80, low(14)]
    };
    for count in [60_000, 200_000] {
        let spec = [0x12, 0].repeat(count);
        let pod = [&length(spec.len())[..], &spec].concat();
        let body = [b"k8s\0", &length(pod.len())[..], &pod].concat();
        server.protobuf(Method::POST, PODS, body).await.expect(413);
    }
}
