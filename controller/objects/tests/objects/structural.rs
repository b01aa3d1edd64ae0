//! A structural schema is asked, and says, what the table of Kubernetes' types does.

use serde_json::{Value, json};
use warren_objects::{
    defaults,
    kinds::Kind,
    schema::{Fields, Keys, Merge, Structural},
};

use crate::{registry::BACKUPS, samples::yaml};

fn schema() -> Structural {
    let definition = yaml(BACKUPS);
    Structural::of_kind("Backup", &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]).unwrap()
}

fn backup(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Backup", "metadata": {"name": "a"}, "spec": spec})
}

#[test]
fn defaults_stand_for_what_is_absent_and_null_stays_where_it_is_a_value() {
    let mut object =
        backup(json!({"copies": null, "note": null, "parts": [{"name": "x"}, {"name": "y", "size": 3}]}));
    defaults::apply(&Kind::custom(&yaml(BACKUPS)).unwrap(), &mut object);
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
