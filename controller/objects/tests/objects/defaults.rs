//! What is left out is filled in, and what was filled in goes when the type changes.

use crate::samples::served;
use serde_json::json;
use warren_objects::defaults::apply;

#[test]
fn behaviour_is_filled_in_only_when_given() {
    let mut value = json!({"spec": {"maxReplicas": 3}});
    apply(served("horizontalpodautoscalers.autoscaling"), &mut value);
    assert_eq!(value["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
    assert_eq!(value["spec"]["minReplicas"], 1);
    assert!(value["spec"].get("behavior").is_none());
    let mut value =
        json!({"spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"selectPolicy": "Disabled"}}}});
    apply(served("horizontalpodautoscalers.autoscaling"), &mut value);
    let behavior = &value["spec"]["behavior"];
    assert_eq!(behavior["scaleUp"]["policies"].as_array().map(Vec::len), Some(2));
    assert_eq!(behavior["scaleDown"]["selectPolicy"], "Disabled");
}

#[test]
fn secrets_fold_their_texts() {
    let mut value = json!({"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"b": "hello", "c": "ü"}});
    apply(served("secrets"), &mut value);
    assert_eq!(value, json!({"type": "Opaque", "data": {"a": "eA==", "b": "aGVsbG8=", "c": "w7w="}}));
}

#[test]
fn namespaces() {
    let mut value = json!({"metadata": {"name": "shop"}});
    apply(served("namespaces"), &mut value);
    assert_eq!(value["metadata"]["labels"]["kubernetes.io/metadata.name"], "shop");
    assert_eq!(value["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(value["status"]["phase"], "Active");
    let mut value = json!({"metadata": {"name": "shop", "deletionTimestamp": "2026-11-22T12:00:00Z"}});
    apply(served("namespaces"), &mut value);
    assert!(value["spec"].get("finalizers").is_none());
    assert_eq!(value["status"]["phase"], "Terminating");
}

#[test]
fn nodes() {
    let mut value = json!({"status": {"capacity": {"cpu": 4, "memory": "8Gi"}}});
    apply(served("nodes"), &mut value);
    assert_eq!(value["status"]["allocatable"], json!({"cpu": "4", "memory": "8Gi"}));
}

#[test]
fn a_job_selects_its_pods_by_its_uid() {
    let mut value = json!({"metadata": {"name": "pi", "uid": "u-1"}, "spec": {"template": {
        "metadata": {"labels": {"app": "pi"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "pi", "image": "perl:5"}]}}}});
    apply(served("jobs.batch"), &mut value);
    let once = value.clone();
    apply(served("jobs.batch"), &mut value);
    assert_eq!(value, once);
    let spec = &value["spec"];
    assert_eq!(
        (&spec["completions"], &spec["parallelism"], &spec["backoffLimit"]),
        (&json!(1), &json!(1), &json!(6))
    );
    assert_eq!(spec["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}));
    assert_eq!(
        spec["template"]["metadata"]["labels"],
        json!({"app": "pi", "job-name": "pi",
        "batch.kubernetes.io/job-name": "pi", "controller-uid": "u-1", "batch.kubernetes.io/controller-uid": "u-1"})
    );
    assert_eq!(
        value["metadata"]["labels"], spec["template"]["metadata"]["labels"],
        "it is found by them, too"
    );
    let mut other = json!({"metadata": {"name": "pi", "uid": "u-1", "labels": {"a": "b"}}, "spec": {"template": {
        "metadata": {"labels": {"controller-uid": "u-0"}}, "spec": {}}}});
    apply(served("jobs.batch"), &mut other);
    assert_eq!(other["metadata"]["labels"], json!({"a": "b"}));
    let labels = &other["spec"]["template"]["metadata"]["labels"];
    assert_eq!(
        (&labels["controller-uid"], &labels["job-name"]),
        (&json!("u-0"), &json!("pi")),
        "to be refused"
    );
}

#[test]
fn a_job_may_have_a_selector_of_its_own() {
    let mut value = json!({"metadata": {"name": "pi", "uid": "u-1"}, "spec": {"manualSelector": true,
        "selector": {"matchLabels": {"app": "pi"}}, "backoffLimitPerIndex": 2, "template": {
        "metadata": {"labels": {"app": "pi"}}, "spec": {}}}});
    apply(served("jobs.batch"), &mut value);
    let spec = &value["spec"];
    assert_eq!(spec["template"]["metadata"]["labels"], json!({"app": "pi"}));
    assert_eq!(spec["selector"], json!({"matchLabels": {"app": "pi"}}));
    assert_eq!(spec["backoffLimit"], i32::MAX);
    for (field, default) in [
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
    ] {
        assert_eq!(spec[field], default, "{field}");
    }
}

#[test]
fn parallel_jobs_need_no_completions() {
    let mut value = json!({"spec": {"parallelism": 3, "podFailurePolicy": {"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}});
    apply(served("jobs.batch"), &mut value);
    assert!(value["spec"].get("completions").is_none());
    assert_eq!(value["spec"]["podReplacementPolicy"], "Failed");
    assert_eq!(value["spec"]["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"], "True");
}

#[test]
fn cron_jobs_keep_their_job_as_it_was_given() {
    let mut value = json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {
        "restartPolicy": "OnFailure", "containers": [{"name": "a", "image": "b"}]}}}}}});
    apply(served("cronjobs.batch"), &mut value);
    let spec = &value["spec"];
    assert_eq!(
        (&spec["successfulJobsHistoryLimit"], &spec["failedJobsHistoryLimit"]),
        (&json!(3), &json!(1))
    );
    assert!(spec["jobTemplate"]["spec"].get("backoffLimit").is_none());
    assert_eq!(spec["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"], "ClusterFirst");
}

#[test]
fn limits_follow_from_each_other() {
    let mut value = json!({"spec": {"limits": [
        {"type": "Container", "max": {"cpu": 2}, "min": {"memory": "1Mi"}, "default": {"memory": "64Mi"}},
        {"type": "Pod", "max": {"cpu": "4"}}]}});
    apply(served("limitranges"), &mut value);
    assert_eq!(
        value["spec"]["limits"][0],
        json!({"type": "Container", "max": {"cpu": "2"},
        "min": {"memory": "1Mi"}, "default": {"cpu": "2", "memory": "64Mi"},
        "defaultRequest": {"cpu": "2", "memory": "64Mi"}})
    );
    assert_eq!(value["spec"]["limits"][1], json!({"type": "Pod", "max": {"cpu": "4"}}));
    let mut quota = json!({"spec": {"hard": {"pods": 4}}});
    apply(served("resourcequotas"), &mut quota);
    assert_eq!(quota["spec"]["hard"]["pods"], "4");
}

#[test]
fn a_service_that_stops_being_external() {
    let old = json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster",
        "allocateLoadBalancerNodePorts": true, "ports": [{"port": 80, "nodePort": 30001}]}});
    let mut new = old.clone();
    new["spec"]["type"] = json!("ClusterIP");
    new["spec"]["ports"][0]["port"] = json!(81);
    warren_objects::defaults::adapt(served("services"), &old, &mut new);
    assert_eq!(new, json!({"spec": {"type": "ClusterIP", "ports": [{"port": 81}]}}));
    let mut chosen = old.clone();
    chosen["spec"]["ports"][0]["nodePort"] = json!(30002);
    chosen["spec"]["type"] = json!("NodePort");
    warren_objects::defaults::adapt(served("services"), &old, &mut chosen);
    assert_eq!(chosen["spec"]["ports"][0]["nodePort"], 30002);
    assert!(chosen["spec"].get("allocateLoadBalancerNodePorts").is_none());
    assert_eq!(chosen["spec"]["externalTrafficPolicy"], "Cluster");
}

#[test]
fn services() {
    let mut value = json!({"spec": {"ports": [{"port": 80}, {"port": 443, "targetPort": "tls"}]}});
    apply(served("services"), &mut value);
    assert_eq!(
        value["spec"],
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80},
                {"port": 443, "protocol": "TCP", "targetPort": "tls"}]
        })
    );
    let mut value =
        json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP", "clusterIP": "10.43.0.9"}});
    apply(served("services"), &mut value);
    assert_eq!(value["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
    assert_eq!(value["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(value["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(value["spec"]["clusterIPs"], json!(["10.43.0.9"]));
    let mut value = json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
    apply(served("services"), &mut value);
    assert!(value["spec"].get("ipFamilies").is_none());
}

#[test]
fn stateful_sets_and_their_claims() {
    let mut value = json!({"spec": {"serviceName": "db", "volumeClaimTemplates": [{"metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": 1024}}}}]}});
    apply(served("statefulsets.apps"), &mut value);
    let spec = &value["spec"];
    assert_eq!(spec["updateStrategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
    assert_eq!(spec["podManagementPolicy"], "OrderedReady");
    assert_eq!(spec["persistentVolumeClaimRetentionPolicy"]["whenScaled"], "Retain");
    let claim = &spec["volumeClaimTemplates"][0];
    assert_eq!(
        (&claim["spec"]["volumeMode"], &claim["status"]["phase"]),
        (&json!("Filesystem"), &json!("Pending"))
    );
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1024");
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
}

#[test]
fn deployments() {
    let mut value = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}});
    apply(served("deployments.apps"), &mut value);
    let spec = &value["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
    assert_eq!(spec["template"]["spec"]["containers"][0]["imagePullPolicy"], "Always");
    // What only pods get is not in templates: the hash must not depend on it.
    assert!(spec["template"]["spec"].get("enableServiceLinks").is_none());
    assert!(spec["template"]["spec"].get("serviceAccountName").is_none());
    assert!(value["metadata"].get("labels").is_none());
}

#[test]
fn recreate_has_no_rolling_update_and_zero_is_a_number_of_replicas() {
    let mut value = json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}});
    apply(served("deployments.apps"), &mut value);
    assert_eq!(value["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(value["spec"]["replicas"], 0);
}
