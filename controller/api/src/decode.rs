//! How large and how deep values are. Reading them is in `warren_objects::text`. Pure.

use serde_json::Value;
pub(crate) use warren_objects::text::{DEEPEST, Decoded, Fault, json, too_many, yaml};

/// Whether a value is nested no deeper than that.
pub(crate) fn is_within(value: &Value, depth: usize) -> bool {
    match (value, depth.checked_sub(1)) {
        (Value::Object(map), Some(rest)) => map.values().all(|item| is_within(item, rest)),
        (Value::Array(items), Some(rest)) => items.iter().all(|item| is_within(item, rest)),
        (Value::Object(_) | Value::Array(_), None) => false,
        _ => true,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn depth_is_counted() {
        let value = json!([[[1]], {"a": []}]);
        assert!(is_within(&value, 3) && !is_within(&value, 2));
    }

    proptest! {
        #[test]
        fn the_length_is_that_of_the_text(numbers in proptest::collection::vec(any::<i32>(), 0..20), text in ".*") {
            let value = json!({"n": numbers, "t": text});
            prop_assert_eq!(encoded_length(&value), value.to_string().len());
        }
    }
}
