//! The paths of the API and what may be done there, as far as clients look: which kind an operation speaks, which
//! parameters it takes, and for PATCH which content types.

use serde_json::{Map, Value, json};

use super::schemas;
use crate::kinds::{KINDS, Kind};

/// One path.
pub(super) struct Path {
    /// The group version in whose document it is.
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    /// `/apis/apps/v1/namespaces/{namespace}/deployments/{name}`.
    pub(super) path: String,
    operations: Vec<Operation>,
}

/// What may be done at a path.
struct Operation {
    method: &'static str,
    /// Kubernetes' word for it.
    action: &'static str,
    /// Group, version and kind of what is spoken.
    speaks: [&'static str; 3],
    parameters: Parameters,
    /// For PATCH: the content types.
    consumes: &'static [&'static str],
}

const PLAIN_PATCHES: &[&str] = &["application/json-patch+json", "application/merge-patch+json"];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Parameters of the query: (name, type).
type Parameters = &'static [(&'static str, &'static str)];

const LIST: Parameters = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: Parameters = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH: Parameters =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETE: Parameters = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// How a verb looks in HTTP and in documents.
struct Verb {
    name: &'static str,
    /// Of a whole collection, not of one object.
    of_collection: bool,
    method: &'static str,
    action: &'static str,
    parameters: Parameters,
}

const fn verb(
    name: &'static str,
    of_collection: bool,
    method: &'static str,
    action: &'static str,
    parameters: Parameters,
) -> Verb {
    Verb { name, of_collection, method, action, parameters }
}

const VERBS: &[Verb] = &[
    verb("list", true, "get", "list", LIST),
    verb("create", true, "post", "post", WRITE),
    verb("deletecollection", true, "delete", "deletecollection", DELETE),
    verb("get", false, "get", "get", &[]),
    verb("update", false, "put", "put", WRITE),
    verb("patch", false, "patch", "patch", PATCH),
    verb("delete", false, "delete", "delete", DELETE),
];

/// `api/v1`, `apis/apps/v1`.
pub(super) fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// All paths of all kinds.
pub(super) fn paths() -> Vec<Path> {
    KINDS.iter().flat_map(of).collect()
}

fn of(kind: &'static Kind) -> Vec<Path> {
    let prefix = prefix(&kind.group, &kind.version);
    let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("/{prefix}{scope}/{}", kind.plural);
    let object = format!("{collection}/{{name}}");
    let speaks: [&str; 3] = [&kind.group, &kind.version, &kind.kind];
    let patches = if schemas::has_fields(kind) { PATCHES } else { PLAIN_PATCHES };
    let path =
        |path: String, operations| Path { group: &kind.group, version: &kind.version, path, operations };
    let mut all = Vec::new();
    if kind.namespaced && kind.verbs.contains(&"list") {
        // Across all namespaces.
        all.push(path(format!("/{prefix}/{}", kind.plural), operations(&["list"], true, speaks, patches)));
    }
    all.push(path(collection, operations(kind.verbs, true, speaks, patches)));
    all.push(path(object.clone(), operations(kind.verbs, false, speaks, patches)));
    for below in kind.subresources {
        let own = below.kind.is_empty();
        let speaks = if own { speaks } else { [below.group, below.version, below.kind] };
        let patches = if own { patches } else { PLAIN_PATCHES };
        let mut operations = operations(below.verbs, false, speaks, patches);
        if below.verbs.contains(&"create") {
            operations.push(Operation {
                method: "post",
                action: "post",
                speaks,
                parameters: &[],
                consumes: &[],
            });
        }
        all.push(path(format!("{object}/{}", below.name), operations));
    }
    all.retain(|path| !path.operations.is_empty());
    all
}

fn operations(
    verbs: &[&str],
    collection: bool,
    speaks: [&'static str; 3],
    patches: &'static [&'static str],
) -> Vec<Operation> {
    let served = VERBS.iter().filter(|verb| verb.of_collection == collection && verbs.contains(&verb.name));
    let operation = |verb: &Verb| Operation {
        method: verb.method,
        action: verb.action,
        speaks,
        parameters: verb.parameters,
        consumes: if verb.method == "patch" { patches } else { &[] },
    };
    served.map(operation).collect()
}

impl Path {
    /// In a document of version 3.
    pub(super) fn v3(&self) -> Value {
        let mut item = self.item(|name, kind, place| {
            let mut parameter = json!({"name": name, "in": place, "schema": {"type": kind}});
            require(&mut parameter, place);
            parameter
        });
        for operation in self.operations.iter().filter(|operation| !operation.consumes.is_empty()) {
            let content: Map<String, Value> =
                operation.consumes.iter().map(|kind| ((*kind).to_owned(), json!({}))).collect();
            item[operation.method]["requestBody"] = json!({"content": content});
        }
        item
    }

    /// In the document of version 2.
    pub(super) fn v2(&self) -> Value {
        let mut item = self.item(|name, kind, place| {
            let mut parameter = json!({"name": name, "in": place, "type": kind});
            require(&mut parameter, place);
            parameter
        });
        for operation in self.operations.iter().filter(|operation| !operation.consumes.is_empty()) {
            item[operation.method]["consumes"] = json!(operation.consumes);
        }
        item
    }

    /// What both versions have in common; `parameter` makes one from its name, type and place.
    fn item(&self, parameter: impl Fn(&str, &str, &str) -> Value) -> Value {
        let mut item = Map::new();
        for operation in &self.operations {
            let [group, version, kind] = operation.speaks;
            let parameters: Vec<Value> =
                operation.parameters.iter().map(|(name, kind)| parameter(name, kind, "query")).collect();
            let mut entry = json!({
                "responses": {"200": {"description": "OK"}},
                "x-kubernetes-action": operation.action,
                "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
            });
            if !parameters.is_empty() {
                entry["parameters"] = json!(parameters);
            }
            item.insert(operation.method.to_owned(), entry);
        }
        let places: Vec<Value> = ["name", "namespace"]
            .iter()
            .filter(|name| self.path.contains(&format!("{{{name}}}")))
            .map(|name| parameter(name, "string", "path"))
            .collect();
        if !places.is_empty() {
            item.insert("parameters".into(), json!(places));
        }
        Value::Object(item)
    }
}

/// What is part of the path cannot be left out.
fn require(parameter: &mut Value, place: &str) {
    if place == "path" {
        parameter["required"] = json!(true);
    }
}
