//! The roles and bindings that every cluster has, and how those of a running cluster are brought up to them.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>. Those of
//! Kubernetes' own components are not among them: Warren's members have no rights of this kind.

use serde_json::{Map, Value, json};
use warren_vocabulary::resources::{CLUSTERROLEBINDINGS, CLUSTERROLES};

use crate::{GROUP, MASTERS, Rule, grants};

/// Says whether a start may mend a default object: not when it is `false`.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const BOTH: &str = "create delete deletecollection get list patch update watch";
const HEALTH: &str = "/healthz /livez /readyz";

/// Verbs, group and resources.
type Of = (&'static str, &'static str, &'static str);

struct DefaultRole {
    name: &'static str,
    /// The roles that are made of it, among others.
    part_of: &'static [&'static str],
    /// Whether it is made of others.
    is_made: bool,
    resources: &'static [Of],
    /// Paths that may be got.
    paths: &'static [&'static str],
}

const PLAIN: DefaultRole = DefaultRole { name: "", part_of: &[], is_made: false, resources: &[], paths: &[] };

const ROLES: &[DefaultRole] = &[
    DefaultRole { name: "admin", is_made: true, ..PLAIN },
    DefaultRole { name: "edit", part_of: &["admin"], is_made: true, ..PLAIN },
    DefaultRole { name: "view", part_of: &["edit"], is_made: true, ..PLAIN },
    DefaultRole {
        name: "system:aggregate-to-admin",
        part_of: &["admin"],
        resources: &[
            ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            (BOTH, GROUP, "rolebindings roles"),
        ],
        ..PLAIN
    },
    DefaultRole { name: "system:aggregate-to-edit", part_of: &["edit"], resources: EDIT, ..PLAIN },
    DefaultRole { name: "system:aggregate-to-view", part_of: &["view"], resources: VIEW, ..PLAIN },
    // Kubernetes has it where its metrics server is installed.
    DefaultRole {
        name: "system:aggregated-metrics-reader",
        part_of: &["admin", "edit", "view"],
        resources: &[(READ, "metrics.k8s.io", "nodes pods")],
        ..PLAIN
    },
    DefaultRole {
        name: "system:auth-delegator",
        resources: &[
            ("create", "authentication.k8s.io", "tokenreviews"),
            ("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
        ..PLAIN
    },
    DefaultRole {
        name: "system:basic-user",
        resources: &[
            ("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
            ("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
        ..PLAIN
    },
    DefaultRole {
        name: "system:discovery",
        paths: &[HEALTH, "/version /version/ /openapi /openapi/* /api /api/* /apis /apis/*"],
        ..PLAIN
    },
    DefaultRole {
        name: "system:monitoring",
        resources: &[("get", "", "nodes/metrics")],
        paths: &[HEALTH, "/metrics /metrics/slis /healthz/* /livez/* /readyz/*"],
        ..PLAIN
    },
    DefaultRole {
        name: "system:persistent-volume-provisioner",
        resources: &[
            ("create delete get list watch", "", "persistentvolumes"),
            ("get list update watch", "", "persistentvolumeclaims"),
            (READ, "storage.k8s.io", "storageclasses"),
            ("create patch update watch", "", "events"),
            ("create patch update", "events.k8s.io", "events"),
        ],
        ..PLAIN
    },
    DefaultRole { name: "system:public-info-viewer", paths: &[HEALTH, "/version /version/"], ..PLAIN },
    DefaultRole {
        name: "system:service-account-issuer-discovery",
        paths: &[
            "/.well-known/openid-configuration /.well-known/openid-configuration/",
            "/openid/v1/jwks /openid/v1/jwks/",
        ],
        ..PLAIN
    },
];

/// What all who work in a namespace see. Secrets are not among it: they may be credentials of others.
const VIEW: &[Of] = &[
    (
        READ,
        "",
        "bindings configmaps endpoints events limitranges namespaces namespaces/status persistentvolumeclaims \
         persistentvolumeclaims/status pods pods/log pods/status replicationcontrollers replicationcontrollers/scale \
         replicationcontrollers/status resourcequotas resourcequotas/status serviceaccounts services services/status",
    ),
    (READ, "discovery.k8s.io", "endpointslices"),
    (
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets \
         replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    (READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    (READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    (READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    (READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
];

/// What those do who run something in a namespace. Who makes pods may use every service account there.
const EDIT: &[Of] = &[
    (READ, "", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    ("impersonate", "", "serviceaccounts"),
    ("create", "", "pods/eviction serviceaccounts/token"),
    (
        WRITE,
        "",
        "configmaps events persistentvolumeclaims pods pods/attach pods/exec pods/portforward pods/proxy \
         replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy",
    ),
    (
        WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets \
         statefulsets/scale",
    ),
    (WRITE, "autoscaling", "horizontalpodautoscalers"),
    (WRITE, "batch", "cronjobs jobs"),
    (WRITE, "policy", "poddisruptionbudgets"),
    (WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    (BOTH, "coordination.k8s.io", "leases"),
];

/// Cluster roles, and the groups that they are given to.
const BINDINGS: &[(&str, &[&str])] = &[
    ("cluster-admin", &[MASTERS]),
    ("system:basic-user", &["system:authenticated"]),
    ("system:discovery", &["system:authenticated"]),
    ("system:monitoring", &["system:monitoring"]),
    ("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
    ("system:service-account-issuer-discovery", &["system:serviceaccounts"]),
];

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl DefaultRole {
    fn rules(&self) -> Vec<Rule> {
        let resources = self.resources.iter().map(|(verbs, group, resources)| Rule {
            verbs: words(verbs),
            groups: vec![(*group).to_owned()],
            resources: words(resources),
            ..Rule::default()
        });
        let urls: Vec<String> = self.paths.iter().flat_map(|paths| words(paths)).collect();
        let paths = (!urls.is_empty()).then(|| Rule { verbs: words("get"), urls, ..Rule::default() });
        resources.chain(paths).collect()
    }

    fn object(&self) -> Value {
        let labels = self.part_of.iter().map(|whole| (part_of(whole), "true"));
        let mut role = object("ClusterRole", self.name, labels);
        if self.is_made {
            let selector = json!({"matchLabels": {part_of(self.name): "true"}});
            role["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
        }
        role["rules"] = self.rules().iter().map(Rule::to_value).collect();
        role
    }
}

/// The label of the roles that another one is made of.
fn part_of(whole: &str) -> String {
    format!("{GROUP}/aggregate-to-{whole}")
}

fn object(kind: &str, name: &str, more: impl Iterator<Item = (String, &'static str)>) -> Value {
    let mut labels: Map<String, Value> = more.map(|(label, value)| (label, value.into())).collect();
    labels.insert("kubernetes.io/bootstrapping".into(), "rbac-defaults".into());
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": {"name": name, "labels": labels, "annotations": {AUTO_UPDATE: "true"}},
    })
}

/// Every default object, with the store's name of its resource; they have no uid and no time yet. Roles come before what
/// binds them.
pub fn all() -> Vec<(&'static str, Value)> {
    let mut admin = object("ClusterRole", "cluster-admin", std::iter::empty());
    admin["rules"] = json!([
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["*"], "nonResourceURLs": ["*"]},
    ]);
    let roles = ROLES.iter().map(DefaultRole::object);
    let roles = std::iter::once(admin).chain(roles).map(|role| (CLUSTERROLES, role));
    let bindings = BINDINGS.iter().map(|(role, groups)| {
        let mut binding = object("ClusterRoleBinding", role, std::iter::empty());
        binding["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": role});
        let group = |group: &&str| json!({"apiGroup": GROUP, "kind": "Group", "name": group});
        binding["subjects"] = groups.iter().map(group).collect();
        (CLUSTERROLEBINDINGS, binding)
    });
    roles.chain(bindings).collect()
}

/// What becomes of a default object that is there.
#[derive(Debug, Clone, PartialEq)]
pub enum Mending {
    /// It has all that it should have.
    Nothing,
    /// It gets what it lacks; what else it has stays.
    Update(Value),
    /// It gives another role, which no change can mend.
    Replace,
}

/// Brings what is there up to its default: what is missing is added. Whoever does not want that sets the annotation
/// `rbac.authorization.kubernetes.io/autoupdate` to `false`.
pub fn mended(found: &Value, default: &Value) -> Mending {
    if found["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return Mending::Nothing;
    }
    if found["roleRef"] != default["roleRef"] {
        return Mending::Replace;
    }
    let mut new = found.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in default["metadata"][field].as_object().into_iter().flatten() {
            if found["metadata"][field].get(key).is_none() {
                new["metadata"][field][key] = value.clone();
            }
        }
    }
    add_missing(&mut new, default, "/subjects");
    add_missing(&mut new, default, "/aggregationRule/clusterRoleSelectors");
    // The rules of a role that is made of others are nobody's but theirs.
    if default.get("aggregationRule").is_none() {
        let held = Rule::all_of(found);
        let held: Vec<&Rule> = held.iter().collect();
        let missing = grants::missing(&held, &Rule::all_of(default)).unwrap_or_default();
        if !missing.is_empty() {
            let mut rules = found["rules"].as_array().cloned().unwrap_or_default();
            rules.extend(grants::compact(missing).iter().map(Rule::to_value));
            new["rules"] = rules.into();
        }
    }
    if new == *found { Mending::Nothing } else { Mending::Update(new) }
}

/// Adds to a list what the default has more.
fn add_missing(new: &mut Value, default: &Value, list: &str) {
    let Some(wanted) = default.pointer(list).and_then(Value::as_array) else { return };
    let mut all = new.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
    all.extend(wanted.iter().filter(|item| !all.contains(item)).cloned().collect::<Vec<_>>());
    match list.trim_start_matches('/').split_once('/') {
        Some((outer, inner)) => new[outer][inner] = all.into(),
        None => new[list.trim_start_matches('/')] = all.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default(name: &str) -> Value {
        let mut all = all().into_iter().map(|(_, object)| object);
        all.find(|object| object["metadata"]["name"] == name).unwrap()
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_more_stays() {
        for (_, object) in all() {
            assert_eq!(mended(&object, &object), Mending::Nothing, "{object}");
        }
        let whole = default("system:aggregate-to-view");
        let mut less = whole.clone();
        less["rules"] = json!([{"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["x"]}]);
        less["metadata"]["labels"] = json!({"mine": "yes"});
        let Mending::Update(better) = mended(&less, &whole) else { panic!("nothing is added") };
        assert_eq!(better["rules"][0]["apiGroups"][0], "example.com");
        assert_eq!(better["metadata"]["labels"]["mine"], "yes");
        assert_eq!(better["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");
        assert_eq!(mended(&better, &whole), Mending::Nothing, "once is enough");
        less["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
        assert_eq!(mended(&less, &whole), Mending::Nothing);
    }

    #[test]
    fn a_default_binding_of_another_role_is_made_anew() {
        let whole = default("system:discovery");
        let mut other = default("cluster-admin");
        other["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"});
        let binding = all()
            .into_iter()
            .map(|(_, object)| object)
            .rfind(|o| o["metadata"]["name"] == "system:discovery");
        assert_eq!(mended(&other, &binding.unwrap()), Mending::Replace);
        assert_eq!(whole["kind"], "ClusterRole");
        let mut fewer = all().pop().unwrap().1;
        let wanted = fewer.clone();
        fewer["subjects"] = json!([{"kind": "User", "apiGroup": GROUP, "name": "jane"}]);
        let Mending::Update(better) = mended(&fewer, &wanted) else { panic!("nothing is added") };
        assert_eq!(better["subjects"].as_array().unwrap().len(), 2);
    }
}
