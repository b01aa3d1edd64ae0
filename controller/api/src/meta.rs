//! `metadata`, as a request names it; the rest is the gate's. Generated names are random.

use rand::Rng;
use serde_json::{Value, json};
pub(crate) use warren_write::metadata::{is_terminating, of, on_create, text, timestamp};

use crate::{kinds::Kind, status::Status};

/// What generated names end with; no vowels, so that no words appear.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// A generated name, with its suffix, fits in a label.
const LONGEST_BASE: usize = 63 - SUFFIX;

/// Checks that the body speaks of the object that the URL names, and fills in what it leaves out.
pub(crate) fn agree_with_url(
    kind: &Kind,
    namespace: &str,
    name: &str,
    object: &mut Value,
) -> Result<(), Status> {
    let stated = text(object, "name");
    if !name.is_empty() && !stated.is_empty() && stated != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({stated}) does not match the name on the URL ({name})"
        )));
    }
    let stated = text(object, "namespace");
    if kind.namespaced && !stated.is_empty() && stated != namespace {
        return Err(Status::bad_request(if name.is_empty() {
            "the namespace of the provided object does not match the namespace sent on the request".to_owned()
        } else {
            format!(
                "the namespace of the object ({stated}) does not match the namespace on the request ({namespace})"
            )
        }));
    }
    let metadata = of(object);
    if !name.is_empty() {
        metadata.insert("name".into(), json!(name));
    }
    if kind.namespaced {
        metadata.insert("namespace".into(), json!(namespace));
    } else {
        metadata.remove("namespace");
    }
    Ok(())
}

/// Whether the server has to choose the name.
pub(crate) fn wants_generated_name(object: &Value) -> bool {
    text(object, "name").is_empty() && !text(object, "generateName").is_empty()
}

/// What a generated name ends with: five characters.
pub(crate) fn suffix() -> String {
    let mut random = rand::rng();
    (0..SUFFIX).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

/// `generateName` and a suffix.
pub(crate) fn generated_name(base: &str, suffix: &str) -> String {
    let mut name: String = base.chars().take(LONGEST_BASE).collect();
    name.push_str(suffix);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_bounded() {
        let name = generated_name(&"x".repeat(80), &suffix());
        assert_eq!(name.len(), 63);
        assert_eq!(generated_name("web-", "bcdfg"), "web-bcdfg");
        assert!(suffix().bytes().all(|byte| ALPHABET.contains(&byte)));
    }
}
