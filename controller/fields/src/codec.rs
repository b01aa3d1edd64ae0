//! `fieldsV1`: the JSON of a set.

use serde_json::{Map, Value, json};

use crate::set::{Element, Node, Set, canonical};

/// A set has at most this many elements.
pub const MOST_ELEMENTS: usize = 100_000;
/// And is at most this deep.
const DEEPEST: usize = 128;
/// A field that has others below it and is in the set itself.
const SELF: &str = ".";

/// Why a text is no set of fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFields {
    /// Something else than a map is where one must be.
    #[error("{0}: must be a map of fields")]
    NoMap(String),
    /// A key has no form.
    #[error("{0:?}: must begin with f:, k:, v: or i:")]
    NoElement(String),
    /// What follows the form of a key is not what must follow it.
    #[error("{0:?}: {1}")]
    BadElement(String, &'static str),
    /// Nobody has that many.
    #[error("has more than {MOST_ELEMENTS} fields")]
    TooMany,
    /// Nor so deep ones.
    #[error("is more than {DEEPEST} levels deep")]
    TooDeep,
}

impl Set {
    /// The set as JSON.
    pub fn to_json(&self) -> Value {
        let written = self.nodes.iter().map(|(element, node)| (element.text().to_owned(), node.to_json()));
        Value::Object(written.collect())
    }

    /// Reads what [`Set::to_json`] writes. Elements of unknown forms are left out, as Kubernetes does.
    pub fn of_json(json: &Value) -> Result<Self, BadFields> {
        let map = json.as_object().ok_or_else(|| BadFields::NoMap("fieldsV1".into()))?;
        let mut room = MOST_ELEMENTS;
        read(map, 0, &mut room).map(|(set, _)| set)
    }
}

impl Node {
    fn to_json(&self) -> Value {
        let mut json = self.below.to_json();
        if let (true, Value::Object(map)) = (self.is_member && !self.below.is_empty(), &mut json) {
            map.insert(SELF.to_owned(), json!({}));
        }
        json
    }
}

/// What is below a node, and whether it says that it is a member itself.
fn read(map: &Map<String, Value>, depth: usize, room: &mut usize) -> Result<(Set, bool), BadFields> {
    if depth > DEEPEST {
        return Err(BadFields::TooDeep);
    }
    let (mut set, mut is_member) = (Set::default(), false);
    for (text, value) in map {
        *room = room.checked_sub(1).ok_or(BadFields::TooMany)?;
        if text == SELF {
            is_member = true;
            continue;
        }
        let Some(element) = element(text)? else { continue };
        let map = value.as_object().ok_or_else(|| BadFields::NoMap(text.clone()))?;
        let (below, says_so) = read(map, depth + 1, room)?;
        let is_member = says_so || below.is_empty();
        set.put(element, is_member, below);
    }
    Ok((set, is_member))
}

fn element(text: &str) -> Result<Option<Element>, BadFields> {
    let bad = |why| BadFields::BadElement(text.to_owned(), why);
    let Some((form, rest)) = text.split_once(':').filter(|(form, _)| form.len() == 1) else {
        return Err(BadFields::NoElement(text.to_owned()));
    };
    let read = || serde_json::from_str::<Value>(rest).map_err(|_| bad("must be followed by JSON"));
    Ok(Some(match form {
        "f" => Element(text.into()),
        "k" => match read()? {
            Value::Object(fields) => Element::key(fields),
            _ => return Err(bad("must be followed by a map")),
        },
        "v" => Element(format!("v:{}", canonical(read()?)).into()),
        "i" => {
            let index: i64 = rest.parse().map_err(|_| bad("must be followed by a whole number"))?;
            Element(format!("i:{index}").into())
        }
        _ => return Ok(None),
    }))
}
