//! PriorityClass: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{default_to, get, int, text, truth},
    kinds::{Entry, PLAIN},
    table::{AGE, Column, NAME, age, column, name, number},
    validate::{immutable, one_of},
};

pub(crate) const ENTRY: Entry = Entry {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    short_names: &["pc"],
    namespaced: false,
    has_generation: true,
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn defaults(value: &mut Value) {
    default_to(value, "preemptionPolicy", "PreemptLowerPriority");
}

/// The highest priority that users may give.
const HIGHEST_PRIORITY: i64 = 1_000_000_000;

/// A class of the cluster itself.
#[derive(Debug, Clone, Copy)]
pub struct SystemClass {
    /// Its name.
    pub name: &'static str,
    /// The priority of its pods.
    pub value: i64,
    /// What it is for.
    pub description: &'static str,
}

/// The classes that every cluster has.
///
/// Source: <https://kubernetes.io/docs/tasks/administer-cluster/guaranteed-scheduling-critical-addon-pods/>.
pub const SYSTEM_CLASSES: [SystemClass; 2] = [
    SystemClass {
        name: "system-cluster-critical",
        value: 2_000_000_000,
        description: "For pods that the cluster cannot do without, on whichever node.",
    },
    SystemClass {
        name: "system-node-critical",
        value: 2_000_001_000,
        description: "For pods that a node cannot do without.",
    },
];

/// What names of classes begin with that users do not make.
const RESERVED: &str = "system-";

fn validate(value: &Value, errors: &mut Errors) {
    let (name, priority) = (text(value, "metadata.name"), int(value, "value").unwrap_or(0));
    if name.starts_with(RESERVED) {
        if let Err(why) = known(name, priority, truth(value, "globalDefault")) {
            let detail = format!(
                "priority class names with '{RESERVED}' prefix are reserved for system use only. error: {why}"
            );
            errors.forbidden(&Path::new("metadata.name"), detail);
        }
    } else if priority > HIGHEST_PRIORITY {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}");
        errors.forbidden(&Path::new("value"), detail);
    }
    one_of(value, "preemptionPolicy", &Path::default(), &["Never", "PreemptLowerPriority"], errors);
}

/// Whether a class of a reserved name is one of the cluster's, as it is there.
fn known(name: &str, priority: i64, is_default: bool) -> Result<(), String> {
    let Some(class) = SYSTEM_CLASSES.iter().find(|class| class.name == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if class.value != priority {
        return Err(format!("value of {name} PriorityClass must be {}", class.value));
    }
    if is_default { Err(format!("globalDefault of {name} PriorityClass must be false")) } else { Ok(()) }
}

/// A change of a PriorityClass: what it means to pods stays.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    if int(old, "value") != int(new, "value") {
        errors.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
    let field = "preemptionPolicy";
    immutable(get(old, field), get(new, field), &Path::new(field), errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Value", "integer", "The priority of its pods."),
    column("Global-Default", "boolean", "Whether pods without a class get it."),
    AGE,
    column("PreemptionPolicy", "string", "Whether its pods may displace others."),
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(value),
        number(value, "value").into(),
        truth(value, "globalDefault").into(),
        age(value, now),
        text(value, "preemptionPolicy").into(),
    ]
}
