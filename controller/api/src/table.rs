//! Tables: columns and cells made on the server. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};
use warren_objects::table;

use crate::{kinds::Kind, query::Query, respond::with_type, status::Status};

/// What a row carries besides its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    Metadata,
    Object,
    Nothing,
}

impl Include {
    pub(crate) fn parse(query: &Query) -> Result<Self, Status> {
        match query.text("includeObject") {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("Object") => Ok(Self::Object),
            Some("None") => Ok(Self::Nothing),
            Some(other) => Err(Status::bad_request(format!(
                "includeObject: Unsupported value: {other:?}: supported values: \"Metadata\", \"None\", \"Object\""
            ))),
        }
    }
}

/// One table of stored objects. `version` is the group version of `Table` that the client asked for.
pub(crate) fn of<'a>(
    kind: &Kind,
    version: &str,
    objects: impl Iterator<Item = &'a Value>,
    metadata: Value,
    include: Include,
    with_columns: bool,
    now: Timestamp,
) -> Value {
    let rows: Vec<Value> = objects
        .map(|object| {
            let carried = match include {
                Include::Metadata => partial(version, object),
                Include::Object => with_type(kind, object).into_owned(),
                Include::Nothing => Value::Null,
            };
            json!({"cells": table::row(kind.resource, object, now), "object": carried})
        })
        .collect();
    let columns = if with_columns { columns(kind) } else { json!([]) };
    json!({"kind": "Table", "apiVersion": version, "metadata": metadata, "columnDefinitions": columns, "rows": rows})
}

fn columns(kind: &Kind) -> Value {
    table::columns(kind.resource)
        .iter()
        .map(|column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        })
        .collect()
}

/// `PartialObjectMetadata`.
pub(crate) fn partial(version: &str, object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": object["metadata"]})
}
