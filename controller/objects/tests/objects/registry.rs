//! A kind that a user defined is served as the built-in ones are: found, checked, filled in, judged, printed.

use std::sync::Arc;

use serde_json::{Value, json};
use warren_objects::{DEFINITIONS, Registries, Registry, defaults, strict, table, validate};
use warren_state::{Key, Object, Snapshot};

use crate::samples::yaml;

pub(crate) const BACKUPS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: backups.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: backups, singular: backup, kind: Backup, shortNames: [bk], categories: [all]}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      selectableFields: [{jsonPath: .spec.target}]
      additionalPrinterColumns:
        - {name: Target, type: string, jsonPath: .spec.target}
        - {name: Copies, type: integer, jsonPath: .spec.copies, priority: 1}
        - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
        - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
      schema:
        openAPIV3Schema:
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
            status:
              type: object
              properties:
                conditions:
                  type: array
                  items: {type: object, properties: {type: {type: string}, status: {type: string}}}
"#;

fn state(definitions: &[Value]) -> Snapshot {
    let object = |(index, value): (usize, &Value)| {
        let name = value["metadata"]["name"].as_str().unwrap();
        Object::new(Key::new(DEFINITIONS, "", name), index as u64 + 1, value.clone())
    };
    Snapshot::from_objects(9, definitions.iter().enumerate().map(object))
}

fn backup() -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Backup",
        "metadata": {"name": "a", "namespace": "d", "creationTimestamp": "2026-11-22T11:58:00Z"},
        "spec": {"target": "db", "parts": [{"name": "x"}]},
        "status": {"conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]}})
}

#[test]
fn a_custom_kind_is_served() {
    let registry = Registry::of(&state(&[yaml(BACKUPS)]));
    assert!(registry.faults().is_empty(), "{:?}", registry.faults());
    let kind = registry.find("example.com", "v1", "backups").unwrap();
    assert!(Arc::ptr_eq(kind, registry.named("example.com/v2", "Backup").unwrap()));
    assert!(Arc::ptr_eq(kind, registry.stored("backups.example.com").unwrap()));
    assert!(kind.namespaced && kind.has_status && kind.subresource("status").is_some());
    assert_eq!((&*kind.singular, kind.fields.as_slice()), ("backup", &["spec.target".into()][..]));

    let mut object = backup();
    defaults::apply(kind, &mut object);
    assert_eq!((&object["spec"]["copies"], &object["spec"]["parts"][0]["size"]), (&json!(2), &json!(1)));
    assert_eq!(strict::decode(kind, &object).unwrap(), strict::Unknown::default());
    assert_eq!(validate::create(kind, &object), []);
    let names: Vec<_> = table::columns(kind).iter().map(|column| column.name.to_owned()).collect();
    assert_eq!(names, ["Name", "Target", "Copies", "Ready", "Age"]);
    let row = table::row(kind, &object, "2026-11-22T12:00:00Z".parse().unwrap());
    assert_eq!(row, [json!("a"), json!("db"), json!(2), json!("True"), json!("2m")]);
}

#[test]
fn what_a_custom_kind_does_not_have_is_said_as_of_any_kind() {
    let registry = Registry::of(&state(&[yaml(BACKUPS)]));
    let kind = registry.stored("backups.example.com").unwrap();
    let mut object = backup();
    object["metadata"]["lables"] = json!({});
    object["spec"]["tarjet"] = json!(1);
    object["spec"]["parts"][0]["sice"] = json!(1);
    object["spec"]["options"] = json!({"free": "x"});
    object["spec"]["anything"] = json!({"free": {"deep": 1}});
    object["spec"]["template"] =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"nmae": "x"}, "spec": {}});
    let unknown = strict::decode(kind, &object).unwrap();
    assert_eq!(
        unknown.0,
        ["metadata.lables", "spec.parts[0].sice", "spec.tarjet", "spec.template.metadata.nmae"]
    );
    strict::prune(kind, &mut object);
    assert!(strict::decode(kind, &object).unwrap().is_empty());
    assert_eq!(object["spec"]["anything"], json!({"free": {"deep": 1}}), "what may be anything is kept");

    object["spec"].as_object_mut().unwrap().remove("target");
    object["spec"]["parts"] = json!([{}]);
    let faults: Vec<_> = validate::create(kind, &object).iter().map(ToString::to_string).collect();
    assert_eq!(faults, ["spec.target: Required value", "spec.parts[0].name: Required value"]);
}

#[test]
fn wrong_types_are_said_in_the_words_of_any_kind() {
    let registry = Registry::of(&state(&[yaml(BACKUPS)]));
    let kind = registry.stored("backups.example.com").unwrap();
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
        let mut object = backup();
        object["spec"][field] = value;
        let told = strict::decode(kind, &object).unwrap_err().to_string();
        assert_eq!(told, format!("Backup.spec.{field}: {fault}"));
    }
    let mut object = backup();
    object["spec"]["since"] = json!("yesterday");
    let wrong = strict::decode(kind, &object).unwrap_err();
    assert!(wrong.field() == "spec.since" && wrong.to_string().starts_with("Backup.spec.since: "));
    let other = json!({"apiVersion": "example.com/v1", "kind": "Other"});
    let told = strict::decode(kind, &other).unwrap_err().to_string();
    assert_eq!(told, "Backup: invalid value: string \"Other\", expected Backup");
}

#[test]
fn a_definition_that_cannot_be_served_is_named_and_the_others_are_served() {
    let mut shapeless = yaml(BACKUPS);
    shapeless["metadata"]["name"] = json!("shapeless.example.com");
    shapeless["spec"]["names"] = json!({"plural": "shapeless", "kind": "Shapeless"});
    shapeless["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"properties": {}});
    let mut second = yaml(BACKUPS);
    second["metadata"]["name"] = json!("z.example.com");
    let empty = json!({"metadata": {"name": "empty.example.com"}});
    let registry = Registry::of(&state(&[yaml(BACKUPS), shapeless, second, empty]));
    assert!(registry.find("example.com", "v1", "backups").is_some());
    let faults: Vec<_> = registry.faults().iter().map(|(name, why)| format!("{name}: {why}")).collect();
    assert_eq!(
        faults,
        [
            "empty.example.com: no version of it is the stored one",
            "shapeless.example.com: properties[spec].type: Required value: must not be empty for specified object fields",
            "z.example.com: its plural or its kind is already that of another one in its group",
        ]
    );
}

#[test]
fn a_registry_lasts_as_long_as_what_defines_its_kinds() {
    let registries = Registries::default();
    let nothing = state(&[]);
    assert!(Arc::ptr_eq(&registries.of(&nothing), &Registry::built_in()));
    let (first, other) = (state(&[yaml(BACKUPS)]), Object::new(Key::new("pods", "d", "p"), 10, json!({})));
    let registry = registries.of(&first);
    assert!(registry.stored("backups.example.com").is_some());
    assert!(Arc::ptr_eq(&registry, &registries.of(&first.with(Arc::new(other)))), "a pod defines no kinds");
    let mut changed = yaml(BACKUPS);
    changed["spec"]["names"]["shortNames"] = json!(["bak"]);
    let changed = Object::new(Key::new(DEFINITIONS, "", "backups.example.com"), 11, changed);
    let later = registries.of(&first.with(Arc::new(changed)));
    assert_eq!(later.stored("backups.example.com").unwrap().short_names, ["bak"]);
    assert!(registries.of(&nothing).stored("backups.example.com").is_none());
}

#[test]
fn built_in_kinds_answer_the_same_questions() {
    let registry = Registry::built_in();
    assert_eq!(registry.find("apps", "v1", "deployments").unwrap().resource, "deployments.apps");
    assert_eq!(
        registry.stored("events").unwrap().api_version(),
        "v1",
        "a converted version is not what is stored"
    );
    assert!(registry.named("v1", "Deployment").is_none());
    assert!(registry.named("example.com/v1", "Backup").is_none(), "nobody defined it");
}
