//! Objects as the text of a response: in the wanted view, from the text that the store has already.
//!
//! An object is encoded once per revision. What is made here is put together from such texts, a bounded part at a
//! time, so that a long list or a slow client costs no second copy.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use warren_objects::table;
use warren_store::Object;

use crate::{kinds::Kind, negotiate::View, table::Include};

/// How much of a response is made at a time.
pub(crate) const CHUNK: usize = 64 * 1024;
/// What ends a list or a table.
pub(crate) const CLOSING: &[u8] = b"]}";

/// How objects are shown.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub(crate) kind: Arc<Kind>,
    pub(crate) view: View,
    pub(crate) include: Include,
    /// For ages in tables.
    pub(crate) now: Timestamp,
}

/// An object to be shown.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown<'a> {
    /// What the store holds.
    Stored(&'a Object),
    /// What was just made.
    Fresh(&'a Value),
}

impl<'a> Shown<'a> {
    pub(crate) fn value(self) -> &'a Value {
        match self {
            Self::Stored(object) => &object.value,
            Self::Fresh(value) => value,
        }
    }
}

/// An object in the version that is served, with `kind` and `apiVersion`, which objects made inside the
/// controller may lack.
pub(crate) fn with_type<'a>(kind: &Kind, object: &'a Value) -> Cow<'a, Value> {
    if let Some(shown) = kind.shown(object) {
        return Cow::Owned(shown);
    }
    if has_type(object) {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    object["kind"] = json!(kind.kind);
    object["apiVersion"] = json!(kind.api_version());
    Cow::Owned(object)
}

fn has_type(object: &Value) -> bool {
    object["kind"].is_string() && object["apiVersion"].is_string()
}

impl Form {
    /// The text of a stored object when it goes out as it is.
    fn verbatim<'a>(&self, object: &'a Object) -> Option<&'a Bytes> {
        (!self.kind.is_converted() && has_type(&object.value)).then(|| object.json())
    }

    /// A whole answer about one object; a table of one row has columns only where they are new to the client.
    pub(crate) fn write_one(&self, shown: Shown<'_>, with_columns: bool, out: &mut Vec<u8>) {
        if !matches!(self.view, View::Table(_)) {
            return self.write_item(shown, out);
        }
        let metadata = json!({"resourceVersion": shown.value()["metadata"]["resourceVersion"]});
        self.write_opening(&metadata, with_columns, out);
        self.write_item(shown, out);
        out.extend_from_slice(CLOSING);
    }

    /// The beginning of a list or a table, up to its first item.
    pub(crate) fn write_opening(&self, metadata: &Value, with_columns: bool, out: &mut Vec<u8>) {
        let (kind, version, items) = match self.view {
            View::Object => (format!("{}List", self.kind.kind), self.kind.api_version(), "\"items\":["),
            View::PartialMetadata(version) => {
                ("PartialObjectMetadataList".to_owned(), version.to_owned(), "\"items\":[")
            }
            View::Table(version) => ("Table".to_owned(), version.to_owned(), "\"rows\":["),
        };
        // Keys in this order, as in Kubernetes: some clients read no further than they must.
        out.extend_from_slice(
            format!("{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},", json!(kind), json!(version))
                .as_bytes(),
        );
        if matches!(self.view, View::Table(_)) {
            let columns = if with_columns { crate::table::columns(&self.kind) } else { json!([]) };
            out.extend_from_slice(format!("\"columnDefinitions\":{columns},").as_bytes());
        }
        out.extend_from_slice(items.as_bytes());
    }

    /// An item of a list, or a row of a table.
    pub(crate) fn write_item(&self, shown: Shown<'_>, out: &mut Vec<u8>) {
        match self.view {
            View::Object => self.write_object(shown, out),
            View::PartialMetadata(version) => write(&Partial::of(version, shown.value()), out),
            View::Table(version) => {
                let cells = table::row(&self.kind, shown.value(), self.now);
                out.extend_from_slice(b"{\"cells\":");
                write(&cells, out);
                out.extend_from_slice(b",\"object\":");
                match self.include {
                    Include::Metadata => write(&Partial::of(version, shown.value()), out),
                    Include::Object => self.write_object(shown, out),
                    Include::Nothing => out.extend_from_slice(b"null"),
                }
                out.push(b'}');
            }
        }
    }

    /// An object that has only a type and metadata; no table.
    pub(crate) fn write_bare(&self, object: &Value, out: &mut Vec<u8>) {
        match self.view {
            View::PartialMetadata(version) => write(&Partial::of(version, object), out),
            _ => write(object, out),
        }
    }

    fn write_object(&self, shown: Shown<'_>, out: &mut Vec<u8>) {
        let stored = if let Shown::Stored(object) = shown { self.verbatim(object) } else { None };
        match stored {
            Some(text) => out.extend_from_slice(text),
            None => write(&*with_type(&self.kind, shown.value()), out),
        }
    }
}

/// `PartialObjectMetadata`, without a copy of the metadata.
#[derive(Serialize)]
struct Partial<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    metadata: &'a Value,
}

impl<'a> Partial<'a> {
    fn of(version: &'a str, object: &'a Value) -> Self {
        Self { kind: "PartialObjectMetadata", api_version: version, metadata: &object["metadata"] }
    }
}

fn write<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a JSON value can be written as JSON, and a vector takes all");
}

#[cfg(test)]
mod tests {
    use warren_store::Key;

    use super::*;
    use crate::kinds::find;

    fn form(view: View, include: Include) -> Form {
        let kind = find("", "v1", "configmaps").unwrap();
        Form { kind: Arc::new(kind.clone()), view, include, now: Timestamp::UNIX_EPOCH }
    }

    fn object() -> Object {
        let value =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
        Object::new(Key::new("configmaps", "d", "a"), 7, value)
    }

    fn text(form: Form, object: &Object) -> Value {
        let mut out = Vec::new();
        form.write_one(Shown::Stored(object), true, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn every_view_is_json() {
        let object = object();
        assert_eq!(text(form(View::Object, Include::Metadata), &object), object.value);
        let partial = text(form(View::PartialMetadata("meta.k8s.io/v1"), Include::Metadata), &object);
        assert_eq!(
            partial,
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.value["metadata"]})
        );
        let table = text(form(View::Table("meta.k8s.io/v1"), Include::Object), &object);
        assert_eq!((&table["kind"], &table["metadata"]), (&json!("Table"), &json!({"resourceVersion": "7"})));
        assert_eq!(table["rows"][0]["object"], object.value);
        assert_eq!(table["columnDefinitions"][0]["format"], "name");
        let bare = text(form(View::Table("meta.k8s.io/v1"), Include::Nothing), &object);
        assert!(bare["rows"][0]["object"].is_null());
    }

    #[test]
    fn what_goes_out_as_it_is_is_the_stores_own_text() {
        let object = object();
        let form = form(View::Object, Include::Metadata);
        let first = form.verbatim(&object).unwrap().as_ptr();
        assert_eq!(first, form.verbatim(&object).unwrap().as_ptr(), "encoded once");
        assert_eq!(first, object.json().as_ptr());
        let nameless = Object::new(Key::new("configmaps", "d", "a"), 7, json!({"metadata": {}}));
        assert!(form.verbatim(&nameless).is_none());
        assert_eq!(text(form, &nameless)["kind"], "ConfigMap");
    }
}
