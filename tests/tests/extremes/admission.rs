//! What the API does with a new object, and with a new status, before it is stored.

use serde_json::{Value, json};
use warren_objects::{defaults, kinds, strict, validate};
use warren_vocabulary::guard;

use crate::places::{Place, Step};

/// The largest body that a request may have.
const BODY: usize = 3 << 20;

/// Fields that the server fills in, whatever is sent.
const SYSTEM: [&str; 11] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

/// Whether clients may write there, and nobody else has tried it already.
pub(crate) fn is_writable(resource: &str, place: &Place) -> bool {
    let system = matches!(place.path.as_slice(), [Step::Field("metadata"), Step::Field(name), ..] if SYSTEM.contains(name));
    // Pods are swept as pods; a template has the same fields.
    let template = place.is_below(&["spec", "template"]);
    let kind = matches!(place.path.as_slice(), [Step::Field("apiVersion" | "kind")]);
    // Init containers have the fields of the others; ephemeral ones are refused.
    let twin = place.is_below(&["spec", "ephemeralContainers"])
        || place.is_below(&["spec", "initContainers"])
            && !["resources", "restartPolicy", "env"]
                .iter()
                .any(|field| place.is_below(&["spec", "initContainers", field]));
    !(system || kind || twin || template && resource != "pods")
}

/// An object with one place (or several, the last of which is this) changed.
pub(crate) struct Candidate<'a> {
    pub(crate) resource: &'a str,
    pub(crate) base: &'a Value,
    pub(crate) place: &'a Place,
    pub(crate) object: Value,
}

impl Candidate<'_> {
    /// The object as it is stored; nothing when it is refused.
    pub(crate) fn admit(self) -> Option<Value> {
        let (resource, place) = (self.resource, self.place);
        let of_status = place.is_below(&["status"]) && resource != "nodes";
        let admitted = guard::catch(|| {
            let Self { base, mut object, .. } = self;
            if !of_status {
                object.as_object_mut().filter(|_| resource != "nodes").map(|map| map.remove("status"));
                return new(resource, object);
            }
            let old = new(resource, base.clone())?;
            let mut changed = old.clone();
            changed["status"] = object["status"].take();
            decodes(resource, &changed).then_some(())?;
            defaults::apply(kinds::of(resource).unwrap(), &mut changed);
            validate::update(kinds::of(resource).unwrap(), &old, &changed).is_empty().then_some(changed)
        });
        admitted.unwrap_or_else(|panic| panic!("{resource} {place}: admission: {panic}"))
    }
}

fn decodes(resource: &str, object: &Value) -> bool {
    object.to_string().len() <= BODY
        && strict::decode(kinds::of(resource).unwrap(), object).is_ok_and(|unknown| unknown.is_empty())
}

fn new(resource: &str, mut object: Value) -> Option<Value> {
    decodes(resource, &object).then_some(())?;
    strict::strip_nulls(&mut object);
    let kind = kinds::of(resource).unwrap();
    let metadata = object["metadata"].as_object_mut()?;
    metadata.insert("name".into(), "x".into());
    metadata.insert("uid".into(), "uid-x".into());
    metadata.insert("creationTimestamp".into(), "2026-01-01T00:00:00Z".into());
    metadata.insert("generation".into(), 1.into());
    if kind.namespaced {
        metadata.insert("namespace".into(), "default".into());
    }
    if resource == "services"
        && object["spec"]["type"] != "ExternalName"
        && object["spec"].get("clusterIP").is_none()
    {
        object["spec"]["clusterIP"] = json!("10.43.0.99");
        object["spec"]["clusterIPs"] = json!(["10.43.0.99"]);
    }
    defaults::apply(kind, &mut object);
    validate::create(kind, &object).is_empty().then_some(object)
}
