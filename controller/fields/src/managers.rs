//! `metadata.managedFields`: who manages what.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    codec::BadFields,
    set::{Element, Set},
};

/// So many entries of updates are told apart; older ones become one.
const MOST_UPDATERS: usize = 10;
/// Who is said to have made changes that are so old.
const ANCIENT: &str = "ancient-changes";

/// How somebody came to manage fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By applying a configuration.
    Apply,
    /// By any other write.
    Update,
}

/// Whose fields they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// What it calls itself.
    pub name: String,
    /// How it writes.
    pub operation: Operation,
    /// The version that it writes in; empty for those who apply, who are the same in every version.
    pub api_version: String,
    /// Through which subresource; empty for the object itself.
    pub subresource: String,
}

/// What somebody manages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The fields.
    pub fields: Set,
    /// The version in which they are named.
    pub api_version: String,
    /// When the manager last changed something.
    pub time: Option<String>,
}

/// Who manages what of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Managers(pub BTreeMap<Manager, Entry>);

/// Why `managedFields` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// It is no list of entries.
    #[error("metadata.managedFields: must be a list of objects")]
    NoList,
    /// A field of an entry is wrong.
    #[error("metadata.managedFields[{0}].{1}: {2}")]
    Field(usize, &'static str, &'static str),
    /// The fields of an entry are wrong.
    #[error("metadata.managedFields[{0}].fieldsV1: {1}")]
    Fields(usize, #[source] BadFields),
}

impl Manager {
    /// Somebody who writes in a version, through a subresource or none.
    pub fn new(name: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        let name = if name.is_empty() { "unknown" } else { name };
        let api_version = if operation == Operation::Apply { "" } else { api_version };
        Self {
            name: name.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

impl Managers {
    /// Whether nobody manages anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether somebody manages something at or below a first element.
    pub fn touch(&self, element: &Element) -> bool {
        self.0.values().any(|entry| entry.fields.touches(element))
    }

    /// Reads `metadata.managedFields`. What is absent is empty.
    pub fn of_json(json: &Value) -> Result<Self, BadEntry> {
        if json.is_null() {
            return Ok(Self::default());
        }
        let items = json.as_array().ok_or(BadEntry::NoList)?;
        items.iter().enumerate().map(|(index, item)| entry(index, item)).collect::<Result<_, _>>().map(Self)
    }

    /// As `metadata.managedFields` has it.
    pub fn to_json(&self) -> Value {
        let mut entries: Vec<(&Manager, &Entry)> = self.0.iter().collect();
        entries.sort_by(|(a, left), (b, right)| {
            let of = |manager: &Manager, entry: &Entry| {
                (manager.operation, entry.time.clone().unwrap_or_default(), manager.name.clone())
            };
            let rest =
                |manager: &Manager, entry: &Entry| (entry.api_version.clone(), manager.subresource.clone());
            of(a, left).cmp(&of(b, right)).then_with(|| rest(a, left).cmp(&rest(b, right)))
        });
        entries.into_iter().map(|(manager, entry)| written(manager, entry)).collect()
    }

    /// Makes one of the oldest entries of updates, so that there are not too many.
    pub fn cap(&mut self) {
        let is_update = |(manager, _): &(&Manager, &Entry)| manager.operation == Operation::Update;
        let mut updaters: Vec<(Option<String>, Manager)> =
            self.0.iter().filter(is_update).map(|(who, entry)| (entry.time.clone(), who.clone())).collect();
        updaters.sort();
        let mut surplus = updaters.len().saturating_sub(MOST_UPDATERS);
        let mut first: BTreeMap<String, Option<Manager>> = BTreeMap::new();
        for (time, manager) in updaters {
            if surplus == 0 {
                return;
            }
            let version = manager.api_version.clone();
            let Some(before) = first.get_mut(&version) else {
                first.insert(version, Some(manager));
                continue;
            };
            let bucket = Manager::new(ANCIENT, Operation::Update, &version, "");
            for old in before.take().into_iter().chain([manager]).filter(|old| *old != bucket) {
                surplus = surplus.saturating_sub(usize::from(self.absorb(&bucket, &old, time.as_ref())));
            }
        }
    }

    /// Gives what a manager has to another one; whether that one was there before.
    fn absorb(&mut self, into: &Manager, from: &Manager, time: Option<&String>) -> bool {
        let Some(entry) = self.0.remove(from) else { return false };
        let Some(all) = self.0.get_mut(into) else {
            self.0.insert(into.clone(), entry);
            return false;
        };
        all.fields = std::mem::take(&mut all.fields).union(&entry.fields);
        all.time = time.cloned();
        true
    }
}

fn written(manager: &Manager, entry: &Entry) -> Value {
    let operation = match manager.operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    };
    let mut json = json!({
        "manager": manager.name, "operation": operation, "apiVersion": entry.api_version,
        "fieldsType": "FieldsV1", "fieldsV1": entry.fields.to_json(),
    });
    if let Some(map) = json.as_object_mut() {
        map.extend(entry.time.clone().map(|time| ("time".to_owned(), time.into())));
        if !manager.subresource.is_empty() {
            map.insert("subresource".to_owned(), manager.subresource.clone().into());
        }
    }
    json
}

fn entry(index: usize, item: &Value) -> Result<(Manager, Entry), BadEntry> {
    let map = item.as_object().ok_or(BadEntry::NoList)?;
    let text = |field: &'static str| match map.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(BadEntry::Field(index, field, "must be a text")),
    };
    let operation = match text("operation")? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(BadEntry::Field(index, "operation", "must be `Apply` or `Update`")),
    };
    let version = text("apiVersion")?;
    if version.is_empty() {
        return Err(BadEntry::Field(index, "apiVersion", "must not be empty"));
    }
    if text("fieldsType")? != "FieldsV1" {
        return Err(BadEntry::Field(index, "fieldsType", "must be `FieldsV1`"));
    }
    let nothing = Value::Object(Map::new());
    let fields = map.get("fieldsV1").filter(|fields| !fields.is_null()).unwrap_or(&nothing);
    let fields = Set::of_json(fields).map_err(|why| BadEntry::Fields(index, why))?;
    let mut manager = Manager::new("", operation, version, text("subresource")?);
    text("manager")?.clone_into(&mut manager.name);
    let time = Some(text("time")?.to_owned()).filter(|time| !time.is_empty());
    Ok((manager, Entry { fields, api_version: version.to_owned(), time }))
}
