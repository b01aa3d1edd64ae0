//! Quotas and limit ranges as clients meet them.

use super::*;

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// A quota of ConfigMaps of which so many are there, as the planner would write it.
async fn counted(server: &Server, hard: &str, used: &str) {
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
        "spec": {"hard": {"configmaps": hard}}});
    let mut made = server.post(QUOTAS, &quota).await.expect(201);
    assert_eq!(made["status"], json!({}));
    made["status"] = json!({"hard": {"configmaps": hard}, "used": {"configmaps": used}});
    server.put(&format!("{QUOTAS}/few/status"), &made).await.expect(200);
}

async fn used(server: &Server) -> Value {
    server.get(&format!("{QUOTAS}/few")).await.expect(200)["status"]["used"]["configmaps"].clone()
}

#[tokio::test]
async fn of_many_that_come_at_once_as_many_are_made_as_are_allowed() {
    let server = Server::new().await;
    counted(&server, "12", "2").await;
    let maps: Vec<_> = (0..40).map(|number| config_map(&format!("map-{number}"), json!({}))).collect();
    let answers = futures_util::future::join_all(maps.iter().map(|map| server.post(CONFIG_MAPS, map))).await;
    let made = answers.iter().filter(|answer| answer.code == 201).count();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.code == 403).collect();
    assert_eq!((made, refused.len()), (10, 30), "and nobody gives up because others write");
    let message = refused[0].json()["message"].as_str().unwrap().to_owned();
    let why = "is forbidden: exceeded quota: few, requested: configmaps=1, used: configmaps=12, limited: configmaps=12";
    assert!(message.ends_with(why), "{message}");
    assert_eq!(used(&server).await, "12");
}

#[tokio::test]
async fn what_is_only_tried_costs_nothing() {
    let server = Server::new().await;
    counted(&server, "1", "0").await;
    let map = config_map("map", json!({}));
    server.post(&format!("{CONFIG_MAPS}?dryRun=All"), &map).await.expect(201);
    assert_eq!(used(&server).await, "0");
    server.post(CONFIG_MAPS, &map).await.expect(201);
    let other = config_map("other", json!({}));
    server.post(&format!("{CONFIG_MAPS}?dryRun=All"), &other).await.expect(403);
}

#[tokio::test]
async fn a_range_completes_and_bounds_pods() {
    let server = Server::new().await;
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "usual"},
        "spec": {"limits": [{"type": "Container", "min": {"cpu": "50m"}, "max": {"cpu": "500m"},
            "defaultRequest": {"cpu": "100m"}}]}});
    let made = server.post("/api/v1/namespaces/default/limitranges", &range).await;
    assert_eq!(made.warnings(), [""; 0]);
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |resources: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
    };
    let refused = server.post(pods, &pod(json!({"requests": {"cpu": "10m"}}))).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"p\" is forbidden: minimum cpu usage per Container is 50m, but request is 10m"
    );
    let made = server.post(pods, &pod(json!({}))).await.expect(201);
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}})
    );
}
