//! OpenAPI, as little as clients need: enough for kubectl to leave validation to the server and to send
//! server-side dry runs. Pure.

use serde_json::{Map, Value, json};

use crate::kinds::{KINDS, api_version, group_versions};

/// The content type of the protobuf form; with `@` in it (as clients ask) Go refuses to parse it.
pub(crate) const V2_CONTENT_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A gnostic `Document` with `swagger`, `info` and empty `paths`: kinds without a schema are not validated by
/// the client.
pub(crate) fn v2_protobuf() -> Vec<u8> {
    let info = [field(1, b"Warren"), field(2, b"v1")].concat();
    [field(1, b"2.0"), field(2, &info), field(8, b"")].concat()
}

/// One length-delimited protobuf field; all lengths here are below 128.
fn field(number: u8, data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(data.len()).ok().filter(|length| *length < 128);
    let mut out =
        vec![(number << 3) | 2, length.expect("the fields of the stub are constants shorter than 128 bytes")];
    out.extend_from_slice(data);
    out
}

/// The same in JSON.
pub(crate) fn v2_json() -> Value {
    json!({"swagger": "2.0", "info": {"title": "Warren", "version": "v1"}, "paths": {}})
}

/// `/openapi/v3`: where each group version's document is.
pub(crate) fn v3_index() -> Value {
    let mut paths = Map::new();
    for (group, version) in group_versions() {
        let path = v3_path(group, version);
        // The document changes only with the table of kinds, thus with the program's version.
        let url = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

fn v3_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The stub of one group version. Only merge patch is listed: kubectl then computes strategic patches from its
/// compiled-in types, not from schemas that are not there.
pub(crate) fn v3_document(group: &str, version: &str) -> Option<Value> {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for kind in KINDS.iter().filter(|kind| kind.group == group && kind.version == version) {
        let gvk = json!({"group": group, "version": version, "kind": kind.kind});
        let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let path = format!("/{}{scope}/{}/{{name}}", v3_path(group, version), kind.plural);
        let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
            .collect();
        if kind.verbs.contains(&"patch") {
            paths.insert(
                path,
                json!({"patch": {
                    "parameters": parameters,
                    "requestBody": {"content": {"application/merge-patch+json": {}}},
                    "responses": {"200": {"description": "OK"}},
                    "x-kubernetes-action": "patch",
                    "x-kubernetes-group-version-kind": gvk,
                }}),
            );
        }
        let group_name = if group.is_empty() { "core" } else { group };
        schemas.insert(
            format!("{group_name}.{version}.{}", kind.kind),
            json!({
                "type": "object",
                "description": format!("{} {}; the server validates.", api_version(group, version), kind.kind),
                "x-kubernetes-group-version-kind": [gvk],
            }),
        );
    }
    if schemas.is_empty() {
        return None;
    }
    Some(json!({
        "openapi": "3.0.0", "info": {"title": "Warren", "version": "v1"}, "paths": paths,
        "components": {"schemas": schemas},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_stub_is_the_measured_one() {
        let expected = b"\x0a\x032.0\x12\x0c\x0a\x06Warren\x12\x02v1\x42\x00";
        assert_eq!(v2_protobuf(), expected);
    }

    #[test]
    fn every_group_version_has_a_document() {
        for (path, entry) in v3_index()["paths"].as_object().unwrap() {
            assert!(entry["serverRelativeURL"].as_str().unwrap().contains(path.as_str()));
        }
        let apps = v3_document("apps", "v1").unwrap();
        let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        assert!(v3_document("apps", "v9").is_none());
    }
}
