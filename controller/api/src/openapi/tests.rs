//! The documents say what clients rely on.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use warren_objects::{
    Registry,
    schema::{self, Type},
};

use super::{gnostic, merging, schemas, types, v2, v3_document};
use crate::kinds::{KINDS, api_version};

/// Served kinds for which k8s-openapi has no type, so that their fields have no descriptions.
const WITHOUT_TYPE: &[(&str, &str, &str)] = &[
    ("discovery.k8s.io", "v1beta1", "EndpointSlice"),
    ("metrics.k8s.io", "v1beta1", "NodeMetrics"),
    ("metrics.k8s.io", "v1beta1", "PodMetrics"),
    // Versions for kubectl 1.20; of the first not even the table of types knows more than its other version.
    ("batch", "v1beta1", "CronJob"),
    ("policy", "v1beta1", "PodDisruptionBudget"),
];

#[test]
fn every_kind_has_a_type() {
    for kind in KINDS.iter() {
        let row = (&*kind.group, &*kind.version, &*kind.kind);
        assert!(kind.message().is_some(), "the table of API types lacks {row:?}");
        assert_eq!(
            types::of(row.0, row.1, row.2).is_none(),
            WITHOUT_TYPE.contains(&row),
            "add the type of {} {} to openapi/types.rs",
            api_version(&kind.group, &kind.version),
            kind.kind
        );
        assert!(schemas::has_fields(kind), "{} {}", api_version(&kind.group, &kind.version), kind.kind);
    }
}

#[test]
fn every_reference_is_resolved_within_its_document() {
    let definitions = schemas::definitions();
    for (group, version) in Registry::built_in().group_versions() {
        let document = v3_document(&definitions, group, version);
        let known: BTreeSet<&str> =
            document["components"]["schemas"].as_object().unwrap().keys().map(String::as_str).collect();
        assert!(!known.is_empty() && !document["paths"].as_object().unwrap().is_empty(), "{group}/{version}");
        each_reference(&document, &mut |target| {
            let name = target.strip_prefix(schemas::REFERENCE).unwrap();
            assert!(known.contains(name), "{group}/{version} lacks {name}");
        });
    }
    let old = v2::document();
    each_reference(&old, &mut |target| {
        assert!(old["definitions"][target.strip_prefix("#/definitions/").unwrap()].is_object(), "{target}");
    });
}

fn each_reference(value: &Value, judge: &mut impl FnMut(&str)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(target) if key == "$ref" => judge(target),
                    _ => each_reference(value, judge),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_reference(item, judge)),
        _ => {}
    }
}

/// What kubectl reads when it computes a patch: the strategy and the key of each list on the way to a port.
#[test]
fn a_deployment_says_how_it_is_patched() {
    let document = v3_document(&schemas::definitions(), "apps", "v1");
    let schemas = &document["components"]["schemas"];
    let of = |name: &str, field: &str| schemas[name]["properties"][field].clone();
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    let kind = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    assert_eq!(deployment["x-kubernetes-group-version-kind"], json!([kind]));
    assert_eq!(deployment["required"], Value::Null);
    let spec = of("io.k8s.api.apps.v1.Deployment", "spec");
    assert_eq!(spec["allOf"], json!([{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}]));
    for (name, field, key) in [
        ("io.k8s.api.core.v1.PodSpec", "containers", "name"),
        ("io.k8s.api.core.v1.PodSpec", "initContainers", "name"),
        ("io.k8s.api.core.v1.PodSpec", "volumes", "name"),
        ("io.k8s.api.core.v1.Container", "ports", "containerPort"),
        ("io.k8s.api.core.v1.Container", "env", "name"),
        ("io.k8s.api.core.v1.Container", "volumeMounts", "mountPath"),
        ("io.k8s.api.core.v1.EphemeralContainer", "env", "name"),
        ("io.k8s.api.apps.v1.DeploymentStatus", "conditions", "type"),
        ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "ownerReferences", "uid"),
    ] {
        let field = of(name, field);
        assert_eq!(field["x-kubernetes-patch-merge-key"], key, "{name}");
        assert!(field["x-kubernetes-patch-strategy"].as_str().unwrap().starts_with("merge"), "{name}");
        assert_eq!(field["type"], "array");
        assert!(field["items"]["$ref"].is_string(), "{field}");
    }
    let finalizers = of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers");
    assert_eq!(finalizers["x-kubernetes-patch-strategy"], "merge");
    let atomic = of("io.k8s.api.core.v1.PodSpec", "tolerations");
    assert_eq!(atomic["x-kubernetes-patch-strategy"], Value::Null);
    let strategy = of("io.k8s.api.apps.v1.DeploymentSpec", "strategy");
    assert_eq!(strategy["x-kubernetes-patch-strategy"], "retainKeys");
    let volumes = of("io.k8s.api.core.v1.PodSpec", "volumes");
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    let patch = &document["paths"][path]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"], kind);
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
    let parameters: Vec<&str> =
        patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert!(parameters.contains(&"dryRun") && parameters.contains(&"fieldValidation"));
}

/// What comes from two sources describes the same types: every definition has a row, every field of a row a property,
/// and the extensions are the ones that Kubernetes publishes.
#[test]
fn types_and_table_agree() {
    let all = schemas::definitions().into_all();
    // In JSON these are one of their fields, without its name.
    let one_of = |kind: Type| match kind {
        Type::OneOf(message) => Some(message.name),
        Type::Map(Type::OneOf(message)) => Some(message.name),
        _ => None,
    };
    let one_of: BTreeSet<&str> = schema::messages()
        .iter()
        .flat_map(|message| message.fields)
        .filter_map(|field| one_of(field.kind))
        .collect();
    assert_eq!(one_of.len(), 3, "{one_of:?}");
    for message in schema::messages().iter().filter(|message| !one_of.contains(message.name)) {
        let Some(definition) = all.get(&merging::definition(message)) else { continue };
        for field in message.json_fields() {
            let property = &definition["properties"][field.json];
            assert!(property.is_object(), "{}.{} has no property", message.name, field.json);
        }
    }
    let of = |name: &str, field: &str| all[name]["properties"][field].clone();
    let ports = of("io.k8s.api.core.v1.Container", "ports");
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
    assert_eq!(ports["x-kubernetes-list-type"], "map");
    let ports = of("io.k8s.api.core.v1.ServiceSpec", "ports");
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "port");
    assert_eq!(of("io.k8s.api.core.v1.Container", "args")["x-kubernetes-list-type"], "atomic");
    assert_eq!(all["io.k8s.api.core.v1.NodeSelectorTerm"]["x-kubernetes-map-type"], "atomic");
    assert_eq!(all["io.k8s.api.core.v1.ConfigMapKeySelector"]["required"], json!(["key"]));
    assert_eq!(all["io.k8s.api.apps.v1.DeploymentSpec"]["required"], json!(["selector", "template"]));
    // Without a type there is a structure nevertheless.
    let old = &all["io.k8s.api.discovery.v1beta1.EndpointSlice"]["properties"];
    assert_eq!(
        old["endpoints"]["items"]["$ref"],
        "#/components/schemas/io.k8s.api.discovery.v1beta1.Endpoint"
    );
    assert!(old["kind"].is_object());
}

#[test]
fn values_of_two_types_are_spelt_as_each_version_does() {
    let all = schemas::definitions().into_all();
    let either = &all["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
    assert_eq!(either["oneOf"], json!([{"type": "integer"}, {"type": "string"}]));
    assert_eq!(either["format"], "int-or-string");
    let old = v2::document();
    let either = &old["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
    assert_eq!((&either["type"], &either["format"]), (&json!("string"), &json!("int-or-string")));
    let limits = &old["definitions"]["io.k8s.api.core.v1.ResourceRequirements"]["properties"]["limits"];
    assert_eq!(
        limits["additionalProperties"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity"
    );
}

/// The bytes of a small document, written out by hand from the message's definition.
#[test]
fn protobuf_is_gnostics() {
    let document = json!({
        "swagger": "2.0",
        "info": {"title": "T", "version": "1"},
        "paths": {"/p": {"patch": {
            "consumes": ["a"],
            "parameters": [{"name": "dryRun", "in": "query", "type": "string"}],
            "x-k": {"a": 1},
        }}},
        "definitions": {"D": {"type": "array", "items": {"$ref": "R"}, "x-k": 1}},
    });
    // A field of the operation, 8, then one-of within one-of within one-of.
    let parameter = b"\x42\x1d\x0a\x1b\x12\x19\x1a\x17\x12\x05query\x22\x06dryRun\x32\x06string";
    let encoded = gnostic::encode(&document);
    assert!(encoded.starts_with(b"\x0a\x032.0\x12\x06\x0a\x01T\x12\x011\x42"));
    let contains = |bytes: &[u8]| encoded.windows(bytes.len()).any(|window| window == bytes);
    assert!(contains(parameter));
    assert!(contains(b"\x3a\x01a"), "consumes");
    assert!(contains(b"\x6a\x10\x0a\x03x-k\x12\x09\x12\x07{\"a\":1}"), "the operation's extension");
    let definition = b"\x0a\x01D\x12\x1f\xb2\x01\x07\x0a\x05array\xba\x01\x05\x0a\x03\x0a\x01R\xfa\x01\x0a\x0a\x03x-k\x12\x03\x12\x011";
    assert!(contains(definition), "{encoded:?}");
}
