//! A structural schema is asked, and says, what the table of Kubernetes' types does.

use serde_json::{Value, json};
use warren_objects::{
    defaults,
    kinds::Kind,
    schema::{Fields, Keys, Merge, Structural},
    strict,
};

use crate::samples::yaml;

const BACKUP: &str = r#"
type: object
properties:
  spec:
    type: object
    required: [target]
    properties:
      target: {type: string}
      copies: {type: integer, format: int32, default: 2}
      ratio: {type: number}
      port: {x-kubernetes-int-or-string: true}
      since: {type: string, format: date-time}
      key: {type: string, format: byte}
      note: {type: string, nullable: true, default: none}
      options: {type: object, additionalProperties: {type: string}}
      anything: {type: object, x-kubernetes-preserve-unknown-fields: true}
      template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
      parts:
        type: array
        x-kubernetes-list-type: map
        x-kubernetes-list-map-keys: [name]
        items:
          type: object
          required: [name]
          properties: {name: {type: string}, size: {type: integer, default: 1}}
"#;

fn schema() -> Structural {
    Structural::of_kind("Backup", &yaml(BACKUP)).unwrap()
}

/// The kind of such objects.
fn kind() -> Kind {
    let definition = json!({"spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "backups", "kind": "Backup"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": yaml(BACKUP)}}],
    }});
    Kind::custom(&definition).unwrap()
}

fn backup(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Backup", "metadata": {"name": "a"}, "spec": spec})
}

fn told(object: &Value) -> Result<Vec<String>, String> {
    let decoded = strict::decode(&kind(), object);
    decoded.map(|unknown| unknown.0).map_err(|error| error.to_string())
}

#[test]
fn what_the_schema_does_not_have_is_named_by_its_path() {
    let mut object = backup(json!({
        "target": "db", "tarjet": 1, "options": {"free": "x"}, "anything": {"free": {"deep": 1}},
        "parts": [{"name": "x", "sice": 1}],
        "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"nmae": "x"}, "spec": {}},
    }));
    object["metadata"]["lables"] = json!({});
    let names = ["metadata.lables", "spec.parts[0].sice", "spec.tarjet", "spec.template.metadata.nmae"];
    assert_eq!(told(&object).unwrap(), names);
}

#[test]
fn wrong_types_are_said_in_the_words_of_any_kind() {
    for (field, value, fault) in [
        ("target", json!(1), "invalid type: integer `1`, expected a string"),
        ("copies", json!(3_000_000_000_u64), "invalid value: integer `3000000000`, expected i32"),
        ("ratio", json!("x"), "invalid type: string \"x\", expected f64"),
        ("port", json!(true), "invalid type: boolean `true`, expected IntOrString"),
        ("key", json!(1), "invalid type: integer `1`, expected a base64-encoded string"),
        ("options", json!([]), "invalid type: sequence, expected a map"),
        ("parts", json!({}), "invalid type: map, expected a sequence"),
        ("anything", json!(1), "invalid type: integer `1`, expected object"),
    ] {
        assert_eq!(told(&backup(json!({field: value}))), Err(format!("Backup.spec.{field}: {fault}")));
    }
    assert!(told(&backup(json!({"since": "yesterday"}))).unwrap_err().starts_with("Backup.spec.since: "));
    let other = json!({"apiVersion": "example.com/v1", "kind": "Other"});
    assert_eq!(told(&other).unwrap_err(), "Backup: invalid value: string \"Other\", expected Backup");
}

#[test]
fn defaults_stand_for_what_is_absent_and_null_stays_where_it_is_a_value() {
    let mut object =
        backup(json!({"copies": null, "note": null, "parts": [{"name": "x"}, {"name": "y", "size": 3}]}));
    defaults::apply(&kind(), &mut object);
    let parts = json!([{"name": "x", "size": 1}, {"name": "y", "size": 3}]);
    assert_eq!(object["spec"], json!({"copies": 2, "note": null, "parts": parts}));
}

#[test]
fn lists_and_fields_say_how_they_are_merged_and_what_is_required() {
    let schema = schema();
    let spec = Fields::Structural(&schema).get("spec").unwrap().schema.shape();
    let warren_objects::schema::Shape::Object(spec) = spec else { panic!("an object") };
    assert!(spec.get("target").unwrap().is_required && !spec.get("copies").unwrap().is_required);
    let Merge::Keys(Keys::Structural(keys)) = spec.get("parts").unwrap().apply else { panic!("by keys") };
    assert_eq!(keys, ["name"]);
    assert!(spec.get("nothing").is_none());
}

#[test]
fn what_is_not_structural_is_named_and_bounded() {
    for (schema, fault) in [
        (json!({"type": "object", "properties": {"a": {"properties": {}}}}), "properties[a].type"),
        (json!({"type": "object", "properties": {"a": {"type": "array"}}}), "properties[a].items"),
        (json!({"type": "object", "properties": {"a": {"type": "blob"}}}), "properties[a].type"),
        (json!({"type": "string"}), "type"),
    ] {
        let faults = Structural::of_kind("Backup", &schema).unwrap_err();
        assert!(faults[0].to_string().starts_with(fault), "{}", faults[0]);
    }
    let deep = (0..100)
        .fold(json!({"type": "string"}), |below, _| json!({"type": "object", "properties": {"a": below}}));
    assert!(Structural::of_kind("Backup", &deep).unwrap_err()[0].to_string().contains("64 levels deep"));
    let fields: serde_json::Map<_, _> =
        (0..20_001).map(|n| (format!("f{n}"), json!({"type": "string"}))).collect();
    let wide = json!({"type": "object", "properties": fields});
    assert!(Structural::of_kind("Backup", &wide).unwrap_err()[0].to_string().contains("20000 parts"));
}
