//! The table is consistent, and says what is known of Kubernetes' types.

use std::collections::BTreeSet;

use super::*;

#[test]
fn lookups_find_what_is_there() {
    assert!(table::ROOTS.is_sorted_by_key(|root| (root.group, root.version, root.kind)));
    assert!(messages().is_sorted_by_key(|message| (message.package, message.name)));
    for found in roots() {
        let message = root(found.group, found.version, found.kind).unwrap();
        assert!(std::ptr::eq(message, found.message), "{}", found.kind);
    }
    assert_eq!(root("apps", "v1", "Deployment").unwrap().name, "Deployment");
    assert_eq!(root("apps", "v1", "DeleteOptions").unwrap().package, "k8s.io.apimachinery.pkg.apis.meta.v1");
    assert!(root("apps", "v1", "Widget").is_none());
    assert!(root("apps", "v2", "Deployment").is_none());
    assert!(root("", "v1", "Deployment").is_none());
}

#[test]
fn same_names_in_different_packages_are_different() {
    let request = root("authentication.k8s.io", "v1", "TokenRequest").unwrap();
    assert!(request.field("spec").is_some());
    let driver = messages()
        .iter()
        .find(|message| message.name == "TokenRequest" && message.package == "k8s.io.api.storage.v1");
    assert!(driver.unwrap().field("spec").is_none());
}

#[test]
fn every_message_is_sound() {
    for message in messages() {
        let name = format!("{}.{}", message.package, message.name);
        assert!(message.fields.is_sorted_by(|a, b| a.number < b.number), "{name}: numbers");
        let fields = message.json_fields();
        let names: BTreeSet<&str> = fields.iter().map(|field| field.json).collect();
        assert_eq!(names.len(), fields.len(), "{name}: two fields of one name");
        assert!(!names.contains(""), "{name}: a field without a name");
        for field in message.fields {
            field_is_sound(&name, field);
        }
    }
}

fn field_is_sound(message: &str, field: &Field) {
    let name = format!("{message}.{}", field.json);
    assert!(field.number > 0, "{name}");
    assert_eq!(field.is_inlined(), field.json.is_empty(), "{name}");
    assert!(!field.is_inlined() || matches!(field.kind, Object(_)), "{name}: only messages are inlined");
    match (field.patch(), field.kind) {
        (Patch::By(key), Type::List(Object(item))) => {
            assert!(item.field(key).is_some(), "{name}: no merge key {key}");
        }
        (Patch::By(_), _) => panic!("{name}: a merge key of what is no list of objects"),
        (Patch::Union, kind) => assert!(matches!(kind, Type::List(Type::String)), "{name}"),
        (Patch::Replace | Patch::RetainKeys, kind) => assert!(matches!(kind, Object(_)), "{name}"),
        (Patch::Default, _) => {}
    }
    match (field.apply(), field.kind) {
        (Apply::Keys(keys), Type::List(Object(item))) => {
            assert!(!keys.is_empty(), "{name}");
            assert!(keys.iter().all(|key| item.field(key).is_some()), "{name}: {keys:?}");
        }
        (Apply::Keys(_), _) => panic!("{name}: keys of what is no list of objects"),
        (Apply::Set, kind) => assert!(matches!(kind, Type::List(_)), "{name}"),
        (Apply::Atomic | Apply::Default, _) => {}
    }
}

#[test]
fn facts_that_are_known() {
    let pod = root("", "v1", "Pod").unwrap();
    let Object(spec) = pod.field("spec").unwrap().kind else { panic!("a pod has a spec") };
    let Type::List(Object(container)) = spec.field("containers").unwrap().kind else {
        panic!("of containers")
    };
    let ports = container.field("ports").unwrap();
    assert_eq!(ports.patch(), Patch::By("containerPort"));
    assert_eq!(ports.apply(), Apply::Keys(&["containerPort", "protocol"]));
    assert_eq!(spec.field("tolerations").unwrap().patch(), Patch::Default);
    assert_eq!(spec.field("tolerations").unwrap().apply(), Apply::Atomic);
    assert!(spec.field("terminationGracePeriodSeconds").unwrap().is_pointer());
    assert!(spec.field("containers").unwrap().is_required());
    let Type::List(Object(volume)) = spec.field("volumes").unwrap().kind else { panic!("and volumes") };
    assert!(matches!(volume.field("emptyDir").unwrap().kind, Object(_)), "sources are inlined");
    let Object(metadata) = pod.field("metadata").unwrap().kind else { panic!("and metadata") };
    assert_eq!(metadata.field("finalizers").unwrap().patch(), Patch::Union);
    let budget = root("policy", "v1", "PodDisruptionBudget").unwrap();
    let Object(spec) = budget.field("spec").unwrap().kind else { panic!("a budget has a spec") };
    assert_eq!(spec.field("selector").unwrap().patch(), Patch::Replace);
    let Object(selector) = spec.field("selector").unwrap().kind else { panic!("with a selector") };
    assert!(selector.atomic);
}

#[test]
fn the_table_stays_small() {
    assert!(size_of::<Field>() <= 56, "{}", size_of::<Field>());
}
