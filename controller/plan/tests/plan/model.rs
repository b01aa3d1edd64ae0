//! A cluster in memory: a store that checks preconditions, agents that start and stop pods, a clock.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use warren_plan::{Liveness, Plan, Planner, RefusedWrite, ScalingRecord, Step, Usage, World};
use warren_state::{Key, Object, Precondition, Snapshot, Transaction, Write};
use warren_vocabulary::{
    ClusterConfig, STOP_ANNOTATION,
    guard::Unwatched,
    member::{Member, MemberRole},
    resources::*,
};
use warren_write::{Author, Gate};

pub(crate) struct Model {
    pub(crate) objects: BTreeMap<Key, (u64, Value)>,
    pub(crate) revision: u64,
    pub(crate) now: Timestamp,
    pub(crate) nodes: BTreeMap<String, Liveness>,
    pub(crate) acknowledged: u64,
    /// Consumers acknowledge at once; otherwise `acknowledged` stays as it is.
    pub(crate) acknowledging: bool,
    pub(crate) released: BTreeMap<Ipv4Addr, u64>,
    /// Pods whose image contains this never become ready.
    pub(crate) broken: Option<&'static str>,
    /// Has seen every world that was planned for.
    planner: RefCell<Planner>,
    /// What planned writes pass; without it what is made is completed and not judged, so that whatever an earlier
    /// version may have stored can be tried.
    pub(crate) gate: Option<Gate>,
    /// Whether the gate may refuse any; otherwise that is a fault of the planners.
    pub(crate) may_refuse: bool,
    pub(crate) refusals: BTreeMap<Key, Vec<RefusedWrite>>,
    /// How many steps were refused.
    pub(crate) refused: usize,
    /// What members told.
    pub(crate) usage: Usage,
    /// What the autoscalers remember.
    scaling_records: RefCell<BTreeMap<Key, Arc<ScalingRecord>>>,
}

impl Model {
    /// A cluster with `nodes` ready nodes of four cores, and the namespace `default`.
    pub(crate) fn new(nodes: usize) -> Self {
        let mut model = Self {
            objects: BTreeMap::new(),
            revision: 0,
            now: "2026-11-22T12:00:00Z".parse().unwrap(),
            nodes: BTreeMap::new(),
            acknowledged: 0,
            acknowledging: true,
            released: BTreeMap::new(),
            broken: None,
            planner: RefCell::default(),
            gate: None,
            may_refuse: false,
            refusals: BTreeMap::new(),
            refused: 0,
            usage: Usage::default(),
            scaling_records: RefCell::default(),
        };
        model.namespace("default");
        for index in 1..=nodes {
            model.node(index, "4", "8Gi", "110");
        }
        model.settle();
        model
    }

    pub(crate) fn namespace(&mut self, name: &str) {
        self.put(
            NAMESPACES,
            "",
            json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            }),
        );
        // The gate makes it in the same commit.
        self.put(
            SERVICEACCOUNTS,
            name,
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
        );
    }

    pub(crate) fn node(&mut self, index: usize, cpu: &str, memory: &str, pods: &str) {
        let name = format!("node-{index}");
        let member = Member {
            name: name.clone(),
            role: MemberRole::Node,
            pod_cidr: format!("10.42.{index}.0/24").parse().unwrap(),
            public_key: None,
            endpoint: None,
            backend: None,
            mtu: None,
            machine: None,
            id: None,
        };
        self.write(Member::key(&name), member.to_value());
        self.put(
            NODES,
            "",
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
                "status": {
                    "allocatable": {"cpu": cpu, "memory": memory, "pods": pods},
                    "addresses": [{"type": "InternalIP", "address": format!("192.0.2.{index}")}],
                    "conditions": [{"type": "ContainerRuntimeReady", "status": "True"}],
                },
            }),
        );
        self.hear(index, 0);
    }

    /// The node has been silent for so many seconds.
    pub(crate) fn hear(&mut self, index: usize, silent: u64) {
        let liveness = Liveness { silent_for: Duration::from_secs(silent), network_ready: true };
        self.nodes.insert(format!("node-{index}"), liveness);
    }

    /// As the API server stores it: with uid, creation time and generation.
    pub(crate) fn put(&mut self, resource: &str, namespace: &str, mut value: Value) -> Key {
        let name = value["metadata"]["name"].as_str().unwrap().to_owned();
        let key = Key::new(resource, namespace, &name);
        if value["metadata"]["uid"].is_null() {
            value["metadata"]["uid"] = format!("uid-{resource}-{namespace}-{name}-{}", self.revision).into();
        }
        if value["metadata"]["creationTimestamp"].is_null() {
            value["metadata"]["creationTimestamp"] = self.now.to_string().into();
        }
        value["metadata"]["generation"] = 1.into();
        if !namespace.is_empty() {
            value["metadata"]["namespace"] = namespace.into();
        }
        self.write(key.clone(), value);
        key
    }

    pub(crate) fn deployment(&mut self, name: &str, replicas: i64, strategy: Value) -> Key {
        self.put(
            DEPLOYMENTS,
            "default",
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": name, "labels": {"app": name}},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": {"app": name}},
                    "strategy": strategy,
                    "revisionHistoryLimit": 10,
                    "progressDeadlineSeconds": 600,
                    "template": {
                        "metadata": {"labels": {"app": name}},
                        "spec": {
                            "terminationGracePeriodSeconds": 30,
                            "containers": [{
                                "name": "main", "image": "image:1",
                                "ports": [{"name": "http", "containerPort": 8080}],
                                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                            }],
                        },
                    },
                },
            }),
        )
    }

    /// As the API stores it: with its selector, and all that was left out.
    pub(crate) fn job(&mut self, name: &str, spec: Value) -> Key {
        let uid = format!("uid-job-{name}-{}", self.revision);
        let mut job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default", "uid": uid},
            "spec": {"template": {"metadata": {"labels": {"app": name}}, "spec": {"restartPolicy": "Never",
                "containers": [{"name": "main", "image": "image:1",
                    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]}}},
        });
        for (field, value) in spec.as_object().unwrap() {
            job["spec"][field] = value.clone();
        }
        warren_objects::defaults::apply(warren_objects::kinds::of(JOBS).unwrap(), &mut job);
        self.put(JOBS, "default", job)
    }

    pub(crate) fn cron_job(&mut self, name: &str, spec: Value) -> Key {
        let mut cron = json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name, "namespace": "default"},
            "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"metadata": {"labels": {"cron": name}}, "spec": {
                "template": {"metadata": {"labels": {"app": name}}, "spec": {"restartPolicy": "Never",
                    "containers": [{"name": "main", "image": "image:1"}]}}}}},
        });
        for (field, value) in spec.as_object().unwrap() {
            cron["spec"][field] = value.clone();
        }
        warren_objects::defaults::apply(warren_objects::kinds::of(CRONJOBS).unwrap(), &mut cron);
        self.put(CRONJOBS, "default", cron)
    }

    /// The containers of a pod end with this code, for good.
    pub(crate) fn end(&mut self, key: &Key, code: i32) {
        let now = Timestamp::from_second(self.now.as_second()).unwrap().to_string();
        self.change(key, |pod| {
            pod["status"]["phase"] = if code == 0 { "Succeeded" } else { "Failed" }.into();
            pod["status"]["containerStatuses"] = json!([{"name": "main", "image": "i", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": code, "finishedAt": now}}}]);
            for condition in pod["status"]["conditions"].as_array_mut().into_iter().flatten() {
                if condition["type"] != "PodScheduled" {
                    condition["status"] = "False".into();
                }
            }
        });
    }

    pub(crate) fn service(&mut self, name: &str, app: &str) -> Key {
        self.put(
            SERVICES,
            "default",
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"app": app}},
                "spec": {
                    "type": "ClusterIP", "clusterIP": "10.43.0.77", "selector": {"app": app},
                    "ports": [{"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}],
                },
            }),
        )
    }

    /// As a client changes an object: a new spec is a new generation.
    pub(crate) fn change(&mut self, key: &Key, change: impl FnOnce(&mut Value)) {
        let mut value = self.get(key).clone();
        change(&mut value);
        if value["spec"] != self.get(key)["spec"] {
            value["metadata"]["generation"] =
                (value["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        self.write(key.clone(), value);
    }

    pub(crate) fn set_image(&mut self, key: &Key, image: &str) {
        self.change(key, |value| value["spec"]["template"]["spec"]["containers"][0]["image"] = image.into());
    }

    pub(crate) fn get(&self, key: &Key) -> &Value {
        &self.objects.get(key).unwrap_or_else(|| panic!("{key} is not there")).1
    }

    pub(crate) fn write(&mut self, key: Key, value: Value) {
        self.revision += 1;
        self.objects.insert(key, (self.revision, value));
        self.acknowledge();
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        self.revision += 1;
        let removed = self.objects.remove(key);
        if let (PODS, Some(address)) = (&*key.resource, removed.as_ref().and_then(|(_, pod)| address(pod))) {
            self.released.insert(address, self.revision);
        }
        self.acknowledge();
    }

    fn acknowledge(&mut self) {
        if self.acknowledging {
            self.acknowledged = self.revision;
        }
    }

    pub(crate) fn world(&self) -> World {
        let object = |(key, (revision, value)): (&Key, &(u64, Value))| {
            Object::new(key.clone(), *revision, value.clone())
        };
        World {
            snapshot: Arc::new(Snapshot::from_objects(self.revision, self.objects.iter().map(object))),
            config: ClusterConfig::default(),
            nodes: self.nodes.clone(),
            acknowledged: self.acknowledged,
            released: self.released.clone(),
            released_since: 0,
            quarantined: Vec::new(),
            failures: Vec::new(),
            refusals: self.refusals.clone(),
            usage: self.usage.clone(),
            scaling_records: self.scaling_records.borrow().clone(),
        }
    }

    /// By planners that plan for what was touched since the last time. Afresh, they would come to the same.
    pub(crate) fn plan(&self) -> Plan {
        let world = self.world();
        let plan = self.planner.borrow_mut().plan(&world, self.now, &Unwatched);
        let afresh = warren_plan::plan(&world, self.now);
        let whys = |plan: &Plan| plan.steps.iter().map(|step| step.why.clone()).collect::<Vec<_>>();
        assert_eq!(whys(&plan), whys(&afresh), "what was touched, and everything");
        assert_eq!(plan, afresh);
        let mut records = self.scaling_records.borrow_mut();
        records.extend(plan.scaling_records.clone());
        records.retain(|key, _| self.objects.contains_key(key));
        drop(records);
        plan
    }

    /// The controller starts anew, and has seen nothing.
    pub(crate) fn restart(&self) {
        drop((self.planner.take(), self.scaling_records.take()));
    }

    /// A client deletes a pod: it has its grace, or goes at once where nothing holds it.
    pub(crate) fn delete_pod(&mut self, key: &Key) {
        let pod = self.get(key);
        let ends = pod["spec"]["nodeName"].is_string() && !has_ended(pod);
        if !ends && finalizers(pod).is_empty() {
            return self.remove(key);
        }
        let now = Timestamp::from_second(self.now.as_second()).unwrap().to_string();
        self.change(key, |pod| {
            if !is_deleting(pod) {
                pod["metadata"]["deletionTimestamp"] = now.into();
                pod["metadata"]["deletionGracePeriodSeconds"] = if ends { 30 } else { 0 }.into();
            }
        });
    }

    /// When the plan wants to be woken, heartbeats aside.
    pub(crate) fn wake_at(&self) -> Timestamp {
        let mut world = self.world();
        world.nodes.retain(|_, liveness| liveness.silent_for >= warren_vocabulary::health::LOST_AFTER);
        warren_plan::plan(&world, self.now).wake_at.expect("there is something to wait for")
    }

    /// Commits, unless a precondition fails.
    pub(crate) fn commit(&mut self, transaction: &Transaction) -> bool {
        let holds = |precondition: &Precondition| match precondition {
            Precondition::Absent(key) => !self.objects.contains_key(key),
            Precondition::Exists(key) => self.objects.contains_key(key),
            Precondition::Revision(key, revision) => {
                self.objects.get(key).is_some_and(|(at, _)| at == revision)
            }
        };
        if !transaction.preconditions.iter().all(holds) {
            return false;
        }
        self.revision += 1;
        for write in &transaction.writes {
            match write {
                Write::Put(key, value) => {
                    drop(self.objects.insert(key.clone(), (self.revision, value.clone())))
                }
                Write::Delete(key) => {
                    let removed = self.objects.remove(key);
                    if let (PODS, Some(at)) =
                        (&*key.resource, removed.as_ref().and_then(|(_, pod)| address(pod)))
                    {
                        self.released.insert(at, self.revision);
                    }
                }
            }
        }
        self.acknowledge();
        true
    }

    /// Plans and commits everything; whether there was anything. Every step of a fresh plan must succeed.
    pub(crate) fn pass(&mut self) -> bool {
        let snapshot = self.world().snapshot;
        let plan = self.plan();
        assert!(plan.failures.is_empty(), "a fault of ours: {:?}", plan.failures);
        for step in &plan.steps {
            let Some(transaction) = self.admit(&snapshot, step) else { continue };
            assert!(self.commit(&transaction), "own plan conflicts with itself: {}", step.why);
            self.check();
        }
        self.now += SignedDuration::from_secs(1);
        !plan.steps.is_empty()
    }

    /// Leads a step through the gate. What is refused is held against the planner for two seconds.
    pub(crate) fn admit(&mut self, snapshot: &Snapshot, step: &Step) -> Option<Transaction> {
        let author = Author::controller(step.planner);
        let Some(gate) = &self.gate else { return Some(completed(&step.transaction)) };
        let refused = match gate.admit_all(snapshot, author, step.transaction.clone()) {
            Ok(passed) => {
                assert!(passed.left_out.is_empty(), "{:?}", passed.left_out);
                let makes = |write: &Write| {
                    matches!(write, Write::Put(key, _)
                        if &*key.resource != EVENTS && !self.objects.contains_key(key))
                };
                if step.transaction.writes.iter().any(makes) {
                    self.refusals.remove(&step.about);
                }
                return Some(passed.transaction);
            }
            Err(refused) => refused,
        };
        assert!(self.may_refuse, "{}: {refused}", step.why);
        self.refused += 1;
        let name = if refused.creates { "" } else { &*refused.key.name };
        let what = Key::new(&refused.key.resource, &refused.key.namespace, name);
        let until = self.now + SignedDuration::from_secs(2);
        let refused = RefusedWrite { planner: step.planner, what, message: refused.to_string(), until };
        self.refusals.insert(step.about.clone(), vec![refused]);
        None
    }

    /// Agents do the next thing for every pod on a node that answers.
    pub(crate) fn agents(&mut self) -> bool {
        let keys: Vec<_> = self.pods().map(|(key, _)| key.clone()).collect();
        keys.iter().filter(|key| self.agent(key)).count() > 0
    }

    /// The agent does the next thing for one pod.
    pub(crate) fn agent(&mut self, key: &Key) -> bool {
        let Some((_, pod)) = self.objects.get(key) else { return false };
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let answers =
            self.nodes.get(node).is_some_and(|liveness| liveness.silent_for < Duration::from_secs(2));
        if !answers || pod["status"]["podIP"].is_null() {
            return false;
        }
        if !pod["metadata"]["annotations"][STOP_ANNOTATION].is_null() {
            return self.let_go(key);
        }
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        if has_ended(pod)
            || is_ready(pod)
            || is_deleting(pod)
            || self.broken.is_some_and(|broken| image.contains(broken))
        {
            return false;
        }
        self.set_ready(&key.clone());
        true
    }

    /// The agent has ended the pod: it goes, or waits for somebody's finalizer.
    fn let_go(&mut self, key: &Key) -> bool {
        let mut value = self.get(key).clone();
        if finalizers(&value).is_empty() {
            self.remove(key);
            return true;
        }
        value["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        let news = value != *self.get(key);
        if news {
            self.write(key.clone(), value);
        }
        news
    }

    /// As the API server does when a client takes a finalizer off: with the last one, what waited for it alone goes.
    pub(crate) fn take_off(&mut self, key: &Key, finalizer: &str) {
        let mut value = self.get(key).clone();
        let left: Vec<_> = finalizers(&value).into_iter().filter(|other| other != finalizer).collect();
        value["metadata"]["finalizers"] = json!(left);
        let graceful = value["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) != 0;
        if left.is_empty() && is_deleting(&value) && !graceful {
            self.remove(key);
        } else {
            self.write(key.clone(), value);
        }
    }

    pub(crate) fn set_ready(&mut self, key: &Key) {
        let now = Timestamp::from_second(self.now.as_second()).unwrap().to_string();
        let mut value = self.get(key).clone();
        value["status"]["phase"] = "Running".into();
        let conditions = value["status"]["conditions"].as_array_mut().unwrap();
        conditions.retain(|condition| condition["type"] == "PodScheduled");
        for kind in ["ContainersReady", "Ready"] {
            conditions.push(json!({"type": kind, "status": "True", "lastTransitionTime": now}));
        }
        self.write(key.clone(), value);
    }

    /// Passes and agents until nothing happens any more.
    pub(crate) fn settle(&mut self) -> usize {
        for round in 0..400 {
            let planned = self.pass();
            if !self.agents() && !planned {
                return round;
            }
        }
        panic!(
            "does not converge: {:#?}",
            self.plan().steps.iter().map(|step| &step.why).collect::<Vec<_>>()
        );
    }

    pub(crate) fn list<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = (&'a Key, &'a Value)> + 'a {
        self.objects
            .iter()
            .filter(move |(key, _)| *key.resource == *resource)
            .map(|(key, (_, value))| (key, value))
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.list(PODS)
    }

    /// Pods with this label `app` that count as replicas.
    pub(crate) fn active<'a>(&'a self, app: &'a str) -> impl Iterator<Item = (&'a Key, &'a Value)> + 'a {
        self.pods().filter(move |(_, pod)| pod["metadata"]["labels"]["app"] == app && !is_deleting(pod))
    }

    /// Active pods per node, in the order of the nodes' names.
    pub(crate) fn spread(&self, app: &str) -> Vec<usize> {
        let count =
            |node: &String| self.active(app).filter(|(_, pod)| pod["spec"]["nodeName"] == **node).count();
        self.nodes.keys().map(count).collect()
    }

    /// Reasons of all events about objects of this name prefix.
    pub(crate) fn told(&self, prefix: &str) -> BTreeSet<String> {
        let about = |event: &Value| event["involvedObject"]["name"].as_str().unwrap().starts_with(prefix);
        let reasons = self.list(EVENTS).filter(|(_, event)| about(event));
        reasons.map(|(_, event)| event["reason"].as_str().unwrap().to_owned()).collect()
    }

    /// All endpoints of a service.
    pub(crate) fn endpoints(&self, service: &str) -> Vec<Value> {
        let of = |slice: &Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service;
        let slices = self.list(ENDPOINTSLICES).filter(|(_, slice)| of(slice));
        slices.flat_map(|(_, slice)| slice["endpoints"].as_array().unwrap().clone()).collect()
    }

    pub(crate) fn ready_endpoints(&self, service: &str) -> usize {
        self.endpoints(service).iter().filter(|endpoint| endpoint["conditions"]["ready"] == true).count()
    }

    /// What must hold after every single commit.
    pub(crate) fn check(&self) {
        let mut addresses = BTreeSet::new();
        let mut load = BTreeMap::<&str, (i64, usize)>::new();
        let mut stopped = BTreeSet::new();
        for (key, pod) in self.pods() {
            if let Some(address) = address(pod) {
                assert!(addresses.insert(address), "{address} was given twice, to {key} too");
            }
            if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|_| !has_ended(pod)) {
                let entry = load.entry(node).or_default();
                entry.0 += millis(&pod["spec"]["containers"][0]["resources"]["requests"]["cpu"]);
                entry.1 += 1;
            }
            if !pod["metadata"]["annotations"][STOP_ANNOTATION].is_null() {
                stopped.insert(pod["metadata"]["uid"].as_str().unwrap());
            }
        }
        for (_, node) in self.list(NODES) {
            let (cpu, pods) =
                load.get(node["metadata"]["name"].as_str().unwrap()).copied().unwrap_or_default();
            assert!(cpu <= millis(&node["status"]["allocatable"]["cpu"]), "node is overbooked: {cpu}m");
            assert!(
                pods <= node["status"]["allocatable"]["pods"].as_str().unwrap().parse().unwrap(),
                "too many pods"
            );
        }
        for (key, slice) in self.list(ENDPOINTSLICES) {
            for endpoint in slice["endpoints"].as_array().unwrap() {
                // Those that a user wrote stand for no pod.
                let Some(uid) = endpoint["targetRef"]["uid"].as_str() else { continue };
                let ready = endpoint["conditions"]["ready"] == true;
                assert!(!(ready && stopped.contains(uid)), "{key} sends traffic to a pod that may stop");
            }
        }
    }
}

/// A transaction whose new pods and jobs have what their templates leave out.
fn completed(transaction: &Transaction) -> Transaction {
    let mut transaction = transaction.clone();
    for write in &mut transaction.writes {
        if let Write::Put(key, value) = write
            && [PODS, JOBS].contains(&&*key.resource)
            && transaction.preconditions.contains(&Precondition::Absent(key.clone()))
        {
            warren_objects::defaults::apply(warren_objects::kinds::of(&key.resource).unwrap(), value);
        }
    }
    transaction
}

fn millis(quantity: &Value) -> i64 {
    let text = quantity.as_str().unwrap_or("0");
    text.strip_suffix('m').map_or_else(|| text.parse::<i64>().unwrap() * 1_000, |text| text.parse().unwrap())
}

pub(crate) fn address(pod: &Value) -> Option<Ipv4Addr> {
    pod["status"]["podIP"].as_str()?.parse().ok()
}

pub(crate) fn is_deleting(value: &Value) -> bool {
    !value["metadata"]["deletionTimestamp"].is_null()
}

pub(crate) fn finalizers(value: &Value) -> Vec<String> {
    let list = value["metadata"]["finalizers"].as_array().into_iter().flatten();
    list.filter_map(|finalizer| finalizer.as_str().map(str::to_owned)).collect()
}

pub(crate) fn condition<'a>(value: &'a Value, kind: &str) -> &'a Value {
    let list = value["status"]["conditions"].as_array();
    list.and_then(|list| list.iter().find(|condition| condition["type"] == kind)).unwrap_or(&Value::Null)
}

pub(crate) fn has_ended(pod: &Value) -> bool {
    pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed"
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready")["status"] == "True"
}

pub(crate) fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}
