//! A Swagger 2.0 document as protobuf: the message `openapi.v2.Document` of google/gnostic, whose field numbers
//! these are. Only what our documents contain is encoded.

use serde_json::Value;

/// Encodes a whole document.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]).text(2, &document["info"]["version"]);
    let mut paths = Message::default();
    for (path, item) in entries(&document["paths"]) {
        paths.named(2, path, &path_item(item));
    }
    let mut definitions = Message::default();
    for (name, definition) in entries(&document["definitions"]) {
        definitions.named(1, name, &schema(definition));
    }
    let mut out = Message::default();
    out.text(1, &document["swagger"]).message(2, &info).message(8, &paths).message(9, &definitions);
    out.0
}

/// A message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn bytes(&mut self, field: u64, data: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2).varint(data.len() as u64);
        self.0.extend_from_slice(data);
        self
    }

    fn message(&mut self, field: u64, message: &Message) -> &mut Self {
        self.bytes(field, &message.0)
    }

    /// A string; what is not there or empty is left out, as protobuf does.
    fn text(&mut self, field: u64, value: &Value) -> &mut Self {
        match value.as_str() {
            Some(text) if !text.is_empty() => self.bytes(field, text.as_bytes()),
            _ => self,
        }
    }

    fn texts(&mut self, field: u64, values: &Value) -> &mut Self {
        for value in values.as_array().into_iter().flatten() {
            self.text(field, value);
        }
        self
    }

    fn flag(&mut self, field: u64, value: &Value) -> &mut Self {
        if *value == true { self.varint(field << 3).varint(1) } else { self }
    }

    /// An entry of a map: name and value.
    fn named(&mut self, field: u64, name: &str, value: &Message) -> &mut Self {
        let mut entry = Message::default();
        entry.bytes(1, name.as_bytes()).message(2, value);
        self.message(field, &entry)
    }

    /// Every `x-...` of an object. Their values are YAML, of which JSON is a part.
    fn extensions(&mut self, field: u64, object: &Value) -> &mut Self {
        for (name, value) in entries(object).filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Message::default();
            any.bytes(2, value.to_string().as_bytes());
            self.named(field, name, &any);
        }
        self
    }
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// A message that holds nothing but one of several others.
fn one_of(field: u64, message: &Message) -> Message {
    let mut out = Message::default();
    out.message(field, message);
    out
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &value["$ref"]).text(2, &value["format"]).text(4, &value["description"]);
    out.texts(19, &value["required"]);
    if let Some(values) = value.get("additionalProperties") {
        out.message(21, &one_of(1, &schema(values)));
    }
    if value["type"].is_string() {
        let mut kinds = Message::default();
        kinds.text(1, &value["type"]);
        out.message(22, &kinds);
    }
    if let Some(items) = value.get("items") {
        out.message(23, &one_of(1, &schema(items)));
    }
    if value["properties"].is_object() {
        let mut properties = Message::default();
        for (name, property) in entries(&value["properties"]) {
            properties.named(1, name, &schema(property));
        }
        out.message(25, &properties);
    }
    out.extensions(31, value);
    out
}

fn path_item(value: &Value) -> Message {
    let mut out = Message::default();
    for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(found) = value.get(method) {
            out.message(field, &operation(found));
        }
    }
    parameters(&mut out, 9, &value["parameters"]);
    out
}

fn operation(value: &Value) -> Message {
    let mut out = Message::default();
    out.texts(7, &value["consumes"]);
    parameters(&mut out, 8, &value["parameters"]);
    let mut responses = Message::default();
    for (code, response) in entries(&value["responses"]) {
        let mut described = Message::default();
        described.text(1, &response["description"]);
        responses.named(1, code, &one_of(1, &described));
    }
    out.message(9, &responses).extensions(13, value);
    out
}

/// Each is a parameter (not a reference to one) outside the body, in the query or in the path.
fn parameters(out: &mut Message, field: u64, values: &Value) {
    for value in values.as_array().into_iter().flatten() {
        let (place, kind) = if value["in"] == "path" { (4, 5) } else { (3, 6) };
        let mut parameter = Message::default();
        parameter.flag(1, &value["required"]).text(2, &value["in"]).text(4, &value["name"]);
        parameter.text(kind, &value["type"]);
        out.message(field, &one_of(1, &one_of(2, &one_of(place, &parameter))));
    }
}
