//! JSON.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Budget, Decoded, Fault, note_duplicate};

/// Reads JSON.
pub fn json(text: &[u8]) -> Result<Decoded, Fault> {
    let mut reader = Reader::default();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read = ValueSeed(&mut reader).deserialize(&mut deserializer);
    match read.and_then(|value| deserializer.end().map(|()| value)) {
        Ok(value) => Ok(Decoded { value, duplicates: reader.duplicates }),
        Err(error) if reader.budget.exceeded => Err(Fault::TooLarge(without_place(&error))),
        Err(error) => Err(Fault::Syntax(error.to_string())),
    }
}

/// Where in its text a limit was passed helps nobody.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).map(str::to_owned).unwrap_or(text)
}

#[derive(Default)]
struct Reader {
    path: String,
    duplicates: Vec<String>,
    budget: Budget,
}

/// Where in the text we are.
struct ValueSeed<'a>(&'a mut Reader);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.budget.value().map_err(D::Error::custom)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.budget.bytes(value.len()).map_err(E::custom)?;
        Ok(value.into())
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let reader = self.0;
        let length = reader.path.len();
        let mut out = Vec::new();
        loop {
            reader.path.push_str(&format!("[{}]", out.len()));
            let item = items.next_element_seed(ValueSeed(reader))?;
            reader.path.truncate(length);
            match item {
                Some(item) => {
                    reader.budget.item(&item).map_err(A::Error::custom)?;
                    out.push(item);
                }
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let reader = self.0;
        let length = reader.path.len();
        let mut out = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            reader.budget.bytes(key.len()).map_err(A::Error::custom)?;
            if length > 0 {
                reader.path.push('.');
            }
            reader.path.push_str(&key);
            if out.contains_key(&key) {
                note_duplicate(&mut reader.duplicates, &reader.path);
            }
            let value = entries.next_value_seed(ValueSeed(reader))?;
            reader.path.truncate(length);
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}
