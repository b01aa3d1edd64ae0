//! JSON merge patch, RFC 7396: null deletes, lists are replaced.

use serde_json::Value;

pub(super) fn apply(patch: &Value, current: &Value) -> Value {
    let mut value = current.clone();
    json_patch::merge(&mut value, patch);
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_deletes_and_lists_are_replaced() {
        let current = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "l": [1, 2]});
        let patch = json!({"metadata": {"labels": {"a": null, "c": "3"}}, "l": [3]});
        assert_eq!(apply(&patch, &current), json!({"metadata": {"labels": {"b": "2", "c": "3"}}, "l": [3]}));
    }
}
