//! A kind that nobody has heard of, known in one place: by an entry, or by a schema that the store holds. It is served,
//! judged, printed, patched and garbage-collected as any other.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use warren_objects::{
    DEFINITIONS, Errors, Path, Registries,
    kinds::{Entry, PLAIN},
    table::{self, Column},
};
use warren_store::{Key, Store as _, Transaction};

use crate::house::House;

const COLUMNS: &[Column<'_>] = &[table::NAME, table::column("Weight", "integer", "How heavy it is.")];

/// All that is known of rocks.
const ROCKS: &[Entry] = &[Entry {
    group: "geology.example.com",
    kind: "Rock",
    plural: "rocks",
    short_names: &["rk"],
    has_generation: true,
    structure: Some(schema),
    validate,
    columns: COLUMNS,
    row: |rock, _| vec![table::name(rock), rock["spec"]["weight"].clone()],
    ..PLAIN
}];

fn validate(rock: &Value, errors: &mut Errors) {
    if rock["spec"]["weight"].as_i64().is_some_and(|weight| weight > 100) {
        errors.invalid(&Path::new("spec.weight"), rock["spec"]["weight"].clone(), "nobody can lift it");
    }
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["colour"], "properties": {
        "colour": {"type": "string"}, "weight": {"type": "integer", "format": "int32", "default": 7},
    }}}})
}

/// The same, as the store holds it. (Rules on values are the entry's alone, yet.)
fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "rocks.geology.example.com"},
        "spec": {
            "group": "geology.example.com", "scope": "Namespaced",
            "names": {"plural": "rocks", "kind": "Rock", "shortNames": ["rk"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema()},
                "additionalPrinterColumns": [{"name": "Weight", "type": "integer", "jsonPath": ".spec.weight"}],
            }],
        },
    })
}

const ALL: &str = "/apis/geology.example.com/v1/namespaces/default/rocks";

fn rock(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "geology.example.com/v1", "kind": "Rock", "metadata": {"name": name}, "spec": spec})
}

async fn is_like_any_other(house: &House) {
    let (code, list) = house.send(Method::GET, "/apis/geology.example.com/v1", "", &Value::Null).await;
    assert_eq!((code, &list["resources"][0]["name"]), (StatusCode::OK, &json!("rocks")));
    assert_eq!(list["resources"][0]["shortNames"], json!(["rk"]));

    let json = "application/json";
    let (code, made) = house.send(Method::POST, ALL, json, &rock("granite", json!({"colour": "grey"}))).await;
    assert_eq!((code, &made["spec"]["weight"]), (StatusCode::CREATED, &json!(7)), "{made}");
    let uid = made["metadata"]["uid"].as_str().unwrap().to_owned();
    for (spec, code, field) in [
        (json!({}), StatusCode::UNPROCESSABLE_ENTITY, "spec.colour"),
        (json!({"colour": 1}), StatusCode::BAD_REQUEST, "Rock.spec.colour"),
        (json!({"colour": "grey", "wieght": 1}), StatusCode::BAD_REQUEST, "spec.wieght"),
    ] {
        let path = format!("{ALL}?fieldValidation=Strict");
        let (found, status) = house.send(Method::POST, &path, json, &rock("wrong", spec)).await;
        assert_eq!(found, code, "{status}");
        assert!(status["message"].as_str().unwrap().contains(field), "{status}");
    }

    let path = format!("{ALL}/granite");
    let patch = json!({"spec": {"weight": 9}});
    let (code, patched) = house.send(Method::PATCH, &path, "application/merge-patch+json", &patch).await;
    assert_eq!((code, &patched["spec"]), (StatusCode::OK, &json!({"colour": "grey", "weight": 9})));
    assert_eq!(patched["metadata"]["generation"], 2);
    let (columns, rows) = house.table(ALL).await;
    assert_eq!((columns, rows), (vec![json!("Name"), json!("Weight")], vec![json!(["granite", 9])]));

    let mut pebble = rock("pebble", json!({"colour": "white"}));
    pebble["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "geology.example.com/v1", "kind": "Rock", "name": "granite", "uid": uid}]);
    assert_eq!(house.post(ALL, &pebble).await, StatusCode::CREATED);
    let (code, _) = house.send(Method::DELETE, &path, "", &Value::Null).await;
    assert_eq!(code, StatusCode::OK);
    let pebble = Key::new("rocks.geology.example.com", "default", "pebble");
    house.until("what it owns follows it", |house| house.store.snapshot().get(&pebble).is_none()).await;
}

#[tokio::test]
async fn a_kind_that_an_entry_knows_is_like_any_other() {
    let house = House::start(Vec::new(), Registries::with(ROCKS)).await;
    is_like_any_other(&house).await;
    let heavy = rock("mountain", json!({"colour": "grey", "weight": 101}));
    assert_eq!(house.post(ALL, &heavy).await, StatusCode::UNPROCESSABLE_ENTITY);
    house.end().await;
}

#[tokio::test]
async fn a_kind_that_the_store_defines_is_like_any_other() {
    let house = House::start(Vec::new(), Registries::default()).await;
    let granite = rock("granite", json!({"colour": "grey"}));
    assert_eq!(house.post(ALL, &granite).await, StatusCode::NOT_FOUND, "nobody defined it");
    let key = Key::new(DEFINITIONS, "", "rocks.geology.example.com");
    house.store.commit(Transaction::new().create(key, definition())).await.unwrap();
    is_like_any_other(&house).await;
    house.end().await;
}
