//! Vectors of what Kubernetes documents, and laws.

mod laws;
mod vectors;

use serde_json::{Value, json};
use warren_objects::{kinds, schema::Fields};

use crate::{Conflicts, Manager, Managers, Operation, Versions, Write, apply, set_of, update};

/// Deployments, in the one version that they have.
pub(crate) struct Only(pub &'static kinds::Kind);

impl Versions for Only {
    fn fields(&self, api_version: &str) -> Option<Fields<'_>> {
        (api_version == self.0.api_version()).then(|| self.0.schema())
    }

    fn convert(&self, object: &Value, _: &str, _: &str) -> Option<Value> {
        Some(object.clone())
    }
}

/// An object and who manages what of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub kind: &'static str,
    pub object: Value,
    pub managers: Managers,
}

impl State {
    pub(crate) fn of(kind: &'static str, object: Value) -> Self {
        Self { kind, object, managers: Managers::default() }
    }

    fn written<T>(&self, name: &str, operation: Operation, then: impl FnOnce(&Write<'_>) -> T) -> T {
        let kind = kinds::of(self.kind).unwrap();
        let version = kind.api_version();
        then(&Write {
            versions: &Only(kind),
            api_version: &version,
            manager: Manager::new(name, operation, &version, ""),
            reaches: &|element| element.name() != Some("status"),
            time: Some("2026-01-01T00:00:00Z".into()),
        })
    }

    pub(crate) fn apply(&self, manager: &str, configuration: &Value, force: bool) -> Result<Self, Conflicts> {
        let (object, managers) = self.written(manager, Operation::Apply, |write| {
            apply(write, &self.object, configuration, self.managers.clone(), force)
        })?;
        Ok(Self { kind: self.kind, object, managers })
    }

    pub(crate) fn update(&self, manager: &str, object: &Value) -> Self {
        let managers = self.written(manager, Operation::Update, |write| {
            update(write, &self.object, object, self.managers.clone())
        });
        Self { kind: self.kind, object: object.clone(), managers }
    }

    pub(crate) fn fields(&self, manager: &str) -> Value {
        let found = self.managers.0.iter().find(|(who, _)| who.name == manager);
        found.map_or(Value::Null, |(_, entry)| entry.fields.to_json())
    }
}

pub(crate) fn fields_of(kind: &str, object: &Value) -> Value {
    set_of(kinds::of(kind).unwrap().schema(), object).to_json()
}

pub(crate) fn deployment(spec: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
}
