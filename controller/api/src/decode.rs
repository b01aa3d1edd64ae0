//! JSON and YAML texts to values, noting fields that are given twice, which a value cannot show any more. Pure.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep a value may be nested. Less than what a JSON reader takes (128), because what is stored is wrapped again:
/// in lists, in events, in backups.
pub(crate) const DEEPEST: usize = 100;
/// More fields than these are not named.
const MOST_DUPLICATES: usize = 100;

/// A value that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Decoded {
    /// The last of equal fields counts.
    pub(crate) value: Value,
    /// The paths of fields that occur more than once: `spec.replicas`.
    pub(crate) duplicates: Vec<String>,
}

impl From<Value> for Decoded {
    fn from(value: Value) -> Self {
        Self { value, duplicates: Vec::new() }
    }
}

/// Reads JSON.
pub(crate) fn json(text: &[u8]) -> Result<Decoded, serde_json::Error> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value =
        Place { path: &mut String::new(), duplicates: &mut duplicates }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Decoded { value, duplicates })
}

/// Reads one YAML document.
pub(crate) fn yaml(text: &[u8]) -> Result<Decoded, serde_yaml_ng::Error> {
    let mut duplicates = Vec::new();
    let deserializer = serde_yaml_ng::Deserializer::from_slice(text);
    let value = Place { path: &mut String::new(), duplicates: &mut duplicates }.deserialize(deserializer)?;
    Ok(Decoded { value, duplicates })
}

/// Whether a value is nested no deeper than that.
pub(crate) fn is_within(value: &Value, depth: usize) -> bool {
    match (value, depth.checked_sub(1)) {
        (Value::Object(map), Some(rest)) => map.values().all(|item| is_within(item, rest)),
        (Value::Array(items), Some(rest)) => items.iter().all(|item| is_within(item, rest)),
        (Value::Object(_) | Value::Array(_), None) => false,
        _ => true,
    }
}

/// More values than any honest object has: the largest custom resource definitions have some 60,000.
const MOST_VALUES: usize = 100_000;
/// More objects in lists than any honest object has. `{},` makes a container of two kilobytes when it is typed.
const MOST_ITEMS: usize = 20_000;

/// Why a value would cost far more memory than its text has bytes, if it would.
pub(crate) fn too_many(value: &Value) -> Option<String> {
    let (mut values, mut items) = (0, 0);
    count(value, &mut values, &mut items);
    if values > MOST_VALUES {
        return Some(format!("the object has {values} values, the limit is {MOST_VALUES}"));
    }
    (items > MOST_ITEMS)
        .then(|| format!("the object has {items} objects in lists, the limit is {MOST_ITEMS}"))
}

fn count(value: &Value, values: &mut usize, items: &mut usize) {
    *values += 1;
    match value {
        Value::Object(map) => map.values().for_each(|value| count(value, values, items)),
        Value::Array(list) => {
            *items += list.iter().filter(|item| item.is_object()).count();
            list.iter().for_each(|item| count(item, values, items));
        }
        _ => {}
    }
}

/// The length of a value's text, without the text.
pub(crate) fn encoded_length(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0 += text.len();
            Ok(text.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX,
    }
}

/// Where in the text we are.
struct Place<'a> {
    path: &'a mut String,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
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
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
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
        let length = self.path.len();
        let mut out = Vec::new();
        loop {
            self.path.push_str(&format!("[{}]", out.len()));
            let item = items.next_element_seed(Place { path: self.path, duplicates: self.duplicates })?;
            self.path.truncate(length);
            match item {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let length = self.path.len();
        let mut out = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key);
            let known = out.contains_key(&key);
            if known && self.duplicates.len() < MOST_DUPLICATES && !self.duplicates.contains(self.path) {
                self.duplicates.push(self.path.clone());
            }
            let value = entries.next_value_seed(Place { path: self.path, duplicates: self.duplicates })?;
            self.path.truncate(length);
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_given_twice_are_named_and_the_last_counts() {
        let decoded = json(br#"{"a":1,"b":{"c":[{"d":1,"d":2,"d":3}]},"a":{"x":1}}"#).unwrap();
        assert_eq!(decoded.value, json!({"a": {"x": 1}, "b": {"c": [{"d": 3}]}}));
        assert_eq!(decoded.duplicates, ["b.c[0].d", "a"]);
        assert!(json(b"{} {}").is_err());
        assert!(json(b"").is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(json(nested(127).as_bytes()).is_ok());
        assert!(json(nested(100_000).as_bytes()).is_err());
        assert!(yaml(nested(100_000).as_bytes()).is_err());
        let value = json(nested(100).as_bytes()).unwrap().value;
        assert!(is_within(&value, 100) && !is_within(&value, 99));
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        let items = |count: usize| json!({"items": vec![json!({}); count]});
        assert_eq!(too_many(&items(MOST_ITEMS)), None);
        assert!(too_many(&items(MOST_ITEMS + 1)).unwrap().contains("objects in lists"));
        assert_eq!(too_many(&json!(vec![1; MOST_VALUES - 1])), None);
        assert!(too_many(&json!(vec![1; MOST_VALUES])).unwrap().contains("values"));
    }

    proptest! {
        #[test]
        fn json_is_read_as_serde_json_reads_it(text in r#"[\[\]{}:,"a-c0-9.e \\ntrulfs-]{0,60}"#) {
            let expected = serde_json::from_str::<Value>(&text).ok();
            prop_assert_eq!(json(text.as_bytes()).ok().map(|decoded| decoded.value), expected);
        }

        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = json(&bytes);
            let _ = yaml(&bytes);
        }

        #[test]
        fn any_yaml_is_judged(text in "[-a-c0-9:&*!|>\\[\\]{},#'\"% \n\t~?]{0,120}") {
            if let Ok(decoded) = yaml(text.as_bytes()) {
                prop_assert!(is_within(&decoded.value, 129));
            }
        }

        #[test]
        fn the_length_is_that_of_the_text(numbers in proptest::collection::vec(any::<i32>(), 0..20), text in ".*") {
            let value = json!({"n": numbers, "t": text});
            prop_assert_eq!(encoded_length(&value), value.to_string().len());
        }
    }
}
