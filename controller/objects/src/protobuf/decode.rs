//! Messages to JSON, by the table.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Number, Value};

use super::{
    DecodeError, Fault, LEVELS, VALUES, special,
    wire::{Payload, Reader},
};
use crate::schema::{Field, Message, Type, is_zero, zero};

type Object = Map<String, Value>;

/// Decodes a whole message.
pub(super) fn object(message: &'static Message, data: &[u8]) -> Result<Object, DecodeError> {
    let mut decoder = Decoder { values_left: VALUES };
    let mut object = Object::new();
    decoder.message(message, data, &mut object, &Path::ROOT)?;
    Ok(object)
}

/// Where the decoder is; spelt out only for an error.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
    /// How many levels of JSON are above.
    depth: usize,
}

enum Step<'a> {
    Root,
    Field(&'a str),
    Item(usize),
}

impl<'a> Path<'a> {
    const ROOT: Path<'static> = Path { parent: None, step: Step::Root, depth: 0 };

    fn below(&'a self, step: Step<'a>) -> Path<'a> {
        Path { parent: Some(self), step, depth: self.depth + 1 }
    }

    fn spell(&self, text: &mut String) {
        if let Some(parent) = self.parent {
            parent.spell(text);
        }
        match self.step {
            Step::Root => {}
            Step::Field(name) if text.is_empty() => text.push_str(name),
            Step::Field(name) => text.extend([".", name]),
            Step::Item(index) => text.push_str(&format!("[{index}]")),
        }
    }

    fn error(&self, fault: Fault) -> DecodeError {
        let mut field = String::new();
        self.spell(&mut field);
        DecodeError { field, fault }
    }
}

struct Decoder {
    values_left: usize,
}

impl Decoder {
    /// Reads the fields of a message into an object, which may have fields from an earlier part of the message.
    fn message(
        &mut self,
        message: &'static Message,
        data: &[u8],
        into: &mut Object,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(data);
        while !reader.is_empty() {
            let (number, wire) = reader.tag().map_err(|fault| path.error(fault))?;
            let Some(field) = message.by_number(number) else {
                reader.payload(wire).map_err(|fault| path.error(fault))?;
                continue;
            };
            if field.is_inlined() {
                let payload = reader.payload(wire).map_err(|fault| path.error(fault))?;
                self.inlined(field, payload, into, path)?;
            } else {
                let path = path.below(Step::Field(field.json));
                let payload = reader.payload(wire).map_err(|fault| path.error(fault))?;
                self.field(field, payload, into, &path)?;
            }
        }
        Ok(())
    }

    fn inlined(
        &mut self,
        field: &Field,
        payload: Payload<'_>,
        into: &mut Object,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        match field.kind {
            Type::Object(message) => {
                self.message(message, payload.bytes().map_err(|fault| path.error(fault))?, into, path)
            }
            _ => Ok(()), // the table inlines messages only
        }
    }

    /// Reads one occurrence of a field: another item of a list, another part of a message, or the last word on it.
    fn field(
        &mut self,
        field: &'static Field,
        payload: Payload<'_>,
        into: &mut Object,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        if path.depth > LEVELS {
            return Err(path.error(Fault::TooDeep));
        }
        match field.kind {
            Type::Object(message) => {
                let data = payload.bytes().map_err(|fault| path.error(fault))?;
                let below = self.container(field.json, into, path, Value::Object(Object::new()))?;
                let Value::Object(below) = below else { return Ok(()) };
                self.message(message, data, below, path)
            }
            Type::List(item) => {
                let list = self.container(field.json, into, path, Value::Array(Vec::new()))?;
                let Value::Array(list) = list else { return Ok(()) };
                self.items(item, payload, list, path)
            }
            Type::Map(value) => {
                let map = self.container(field.json, into, path, Value::Object(Object::new()))?;
                let Value::Object(map) = map else { return Ok(()) };
                self.entry(value, payload, map, path)
            }
            kind => {
                let value = self.value(kind, payload, path)?;
                match value.filter(|value| field.zero_is_written() || !is_zero(kind, value)) {
                    Some(value) => drop(into.insert(field.json.to_owned(), value)),
                    None => drop(into.remove(field.json)),
                }
                Ok(())
            }
        }
    }

    /// What a field holds already, or an empty container.
    fn container<'o>(
        &mut self,
        name: &str,
        into: &'o mut Object,
        path: &Path<'_>,
        empty: Value,
    ) -> Result<&'o mut Value, DecodeError> {
        if !into.contains_key(name) {
            self.count(path)?;
        }
        Ok(into.entry(name).or_insert(empty))
    }

    /// One more value.
    fn count(&mut self, path: &Path<'_>) -> Result<(), DecodeError> {
        self.values_left = self.values_left.checked_sub(1).ok_or_else(|| path.error(Fault::TooLarge))?;
        Ok(())
    }

    /// One item of a list, or several numbers packed together.
    fn items(
        &mut self,
        item: &'static Type,
        payload: Payload<'_>,
        list: &mut Vec<Value>,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        let packable = matches!(item, Type::Bool | Type::Int32 | Type::Int64 | Type::Double);
        let Payload::Bytes(packed) = payload else { return self.item(item, payload, list, path) };
        if !packable {
            return self.item(item, payload, list, path);
        }
        let wire = if matches!(item, Type::Double) { super::wire::FIXED64 } else { super::wire::VARINT };
        let mut reader = Reader::new(packed);
        while !reader.is_empty() {
            let payload = reader.payload(wire).map_err(|fault| path.error(fault))?;
            self.item(item, payload, list, path)?;
        }
        Ok(())
    }

    fn item(
        &mut self,
        item: &'static Type,
        payload: Payload<'_>,
        list: &mut Vec<Value>,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        let value = self.value(*item, payload, &path.below(Step::Item(list.len())))?;
        list.push(value.unwrap_or(Value::Null));
        Ok(())
    }

    /// One entry of a map: a message of key and value, both of which may be left out when they are zero.
    fn entry(
        &mut self,
        kind: &'static Type,
        payload: Payload<'_>,
        map: &mut Object,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(payload.bytes().map_err(|fault| path.error(fault))?);
        let (mut key, mut found) = ("", None);
        while let Some((number, payload)) = reader.field().map_err(|fault| path.error(fault))? {
            match number {
                1 => key = payload.text().map_err(|fault| path.error(fault))?,
                2 => found = Some(payload),
                _ => {}
            }
        }
        let path = path.below(Step::Field(key));
        let value = match found {
            Some(payload) => self.value(*kind, payload, &path)?,
            None => zero(*kind),
        };
        map.insert(key.to_owned(), value.unwrap_or(Value::Null));
        Ok(())
    }

    /// One value; `None` where JSON says null.
    fn value(
        &mut self,
        kind: Type,
        payload: Payload<'_>,
        path: &Path<'_>,
    ) -> Result<Option<Value>, DecodeError> {
        self.count(path)?;
        match kind {
            Type::Object(message) => {
                let object = self.fresh(message, payload, path)?;
                Ok(Some(Value::Object(object)))
            }
            // The last of the fields that are there, by number.
            Type::OneOf(message) => {
                let mut object = self.fresh(message, payload, path)?;
                Ok(message.fields.iter().rev().find_map(|field| object.remove(field.json)))
            }
            Type::Items(item) => {
                let mut reader = Reader::new(payload.bytes().map_err(|fault| path.error(fault))?);
                let mut list = Vec::new();
                while let Some((number, payload)) = reader.field().map_err(|fault| path.error(fault))? {
                    if number == 1 {
                        self.items(item, payload, &mut list, path)?;
                    }
                }
                Ok(Some(Value::Array(list)))
            }
            Type::Json => self.json(payload, path),
            kind => scalar(kind, payload).map_err(|fault| path.error(fault)),
        }
    }

    /// JSON that travels as text; its values count as if they were fields.
    fn json(&mut self, payload: Payload<'_>, path: &Path<'_>) -> Result<Option<Value>, DecodeError> {
        let parsed = payload.bytes().and_then(special::json).map_err(|fault| path.error(fault))?;
        if let Some(value) = &parsed {
            let size = special::size(value, LEVELS.saturating_sub(path.depth));
            let size = size.ok_or_else(|| path.error(Fault::TooDeep))?;
            self.values_left =
                self.values_left.checked_sub(size).ok_or_else(|| path.error(Fault::TooLarge))?;
        }
        Ok(parsed)
    }

    /// A message in an object of its own.
    fn fresh(
        &mut self,
        message: &'static Message,
        payload: Payload<'_>,
        path: &Path<'_>,
    ) -> Result<Object, DecodeError> {
        if path.depth > LEVELS {
            return Err(path.error(Fault::TooDeep));
        }
        let mut object = Object::new();
        self.message(message, payload.bytes().map_err(|fault| path.error(fault))?, &mut object, path)?;
        Ok(object)
    }
}

/// A value without fields.
fn scalar(kind: Type, payload: Payload<'_>) -> Result<Option<Value>, Fault> {
    Ok(Some(match kind {
        Type::Bool => Value::Bool(payload.varint()? != 0),
        // As Go does: the low bits count.
        Type::Int32 => Value::from(payload.varint()? as i32),
        Type::Int64 => Value::from(payload.varint()? as i64),
        Type::Double => Value::Number(double(f64::from_bits(payload.fixed64()?))?),
        Type::String => Value::from(payload.text()?),
        Type::Bytes => Value::from(STANDARD.encode(payload.bytes()?)),
        Type::Time => return Ok(special::time(payload.bytes()?)?.map(Value::from)),
        Type::MicroTime => return Ok(special::micro_time(payload.bytes()?)?.map(Value::from)),
        Type::Duration => Value::from(special::duration(payload.bytes()?)?),
        Type::Quantity => Value::from(special::quantity(payload.bytes()?)?),
        Type::IntOrString => special::int_or_string(payload.bytes()?)?,
        // Decoded elsewhere; the table has no lists of lists and no maps in maps.
        Type::Json | Type::Object(_) | Type::OneOf(_) | Type::List(_) | Type::Map(_) | Type::Items(_) => {
            return Ok(None);
        }
    }))
}

/// Go writes a whole number without a fraction.
fn double(value: f64) -> Result<Number, Fault> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Ok(Number::from(value as i64));
    }
    Number::from_f64(value).ok_or_else(|| Fault::Range(format!("{value} is not a number that JSON has")))
}
