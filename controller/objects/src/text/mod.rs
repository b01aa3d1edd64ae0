//! JSON and YAML texts to values, within a budget that is counted while they are read: what a text means is never
//! much more than what it weighs. Fields that are given twice, which a value cannot show any more, are noted.

mod json;
mod scalar;
mod yaml;

pub use json::json;
use serde_json::Value;
pub use yaml::yaml;

/// How deep a value may be nested. Less than what a JSON reader takes (128), because what is stored is wrapped again:
/// in lists, in events, in backups.
pub const DEEPEST: usize = 100;
/// How deep a text may be nested while it is read; what lies between this and [`DEEPEST`] is refused by its kind's name.
const DEEPEST_TEXT: usize = 128;
/// More values than any honest object has: the largest custom resource definitions have some 60,000.
pub const MOST_VALUES: usize = 100_000;
/// More objects in lists than any honest object has. `{},` makes a container of two kilobytes when it is typed.
pub const MOST_ITEMS: usize = 20_000;
/// The most bytes that the texts in a value may have together, as in a body: an alias of YAML counts as what it repeats.
pub const MOST_BYTES: usize = 3 * 1024 * 1024;
/// More fields than these are not named.
const MOST_DUPLICATES: usize = 100;
/// No more of a path than this is shown: a key may be as long as its text.
pub(crate) const LONGEST_PATH: usize = 256;

/// A value that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decoded {
    /// The last of equal fields counts.
    pub value: Value,
    /// The paths of fields that occur more than once: `spec.replicas`.
    pub duplicates: Vec<String>,
}

impl From<Value> for Decoded {
    fn from(value: Value) -> Self {
        Self { value, duplicates: Vec::new() }
    }
}

/// Why a text was not read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It breaks the rules of its language.
    #[error("{0}")]
    Syntax(String),
    /// It means more than anybody may say at once.
    #[error("{0}")]
    TooLarge(String),
}

/// How much a value weighs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Weight {
    values: usize,
    /// Objects in lists.
    items: usize,
    /// Of keys and texts.
    bytes: usize,
}

impl Weight {
    fn plus(self, other: Self) -> Self {
        Self {
            values: self.values.saturating_add(other.values),
            items: self.items.saturating_add(other.items),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// That of a value that is there already.
    fn of(value: &Value) -> Self {
        let mut weight = Self { values: 1, ..Self::default() };
        match value {
            Value::String(text) => weight.bytes = text.len(),
            Value::Array(list) => {
                weight.items = list.iter().filter(|item| item.is_object()).count();
                weight = list.iter().map(Self::of).fold(weight, Self::plus);
            }
            Value::Object(map) => {
                weight.bytes = map.keys().map(String::len).sum();
                weight = map.values().map(Self::of).fold(weight, Self::plus);
            }
            _ => {}
        }
        weight
    }

    /// What is too much of it, if anything.
    fn excess(self) -> Option<String> {
        let of = |found: usize, most: usize, what: &str| {
            (found > most).then(|| format!("it has {found} {what}, the limit is {most}"))
        };
        of(self.values, MOST_VALUES, "values")
            .or_else(|| of(self.items, MOST_ITEMS, "objects in lists"))
            .or_else(|| of(self.bytes, MOST_BYTES, "bytes of text"))
    }
}

/// What is read so far.
#[derive(Debug, Default)]
struct Budget {
    spent: Weight,
    exceeded: bool,
}

impl Budget {
    /// Before something is kept: may it be?
    fn spend(&mut self, weight: Weight) -> Result<(), Fault> {
        self.spent = self.spent.plus(weight);
        if self.spent.excess().is_none() {
            return Ok(());
        }
        self.exceeded = true;
        let limits =
            format!("{MOST_VALUES} values, {MOST_ITEMS} objects in lists, {MOST_BYTES} bytes of text");
        Err(Fault::TooLarge(format!(
            "the text means more than the limit allows ({limits}), aliases included"
        )))
    }

    fn value(&mut self) -> Result<(), Fault> {
        self.spend(Weight { values: 1, ..Weight::default() })
    }

    fn bytes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.spend(Weight { bytes, ..Weight::default() })
    }

    fn item(&mut self, item: &Value) -> Result<(), Fault> {
        self.spend(Weight { items: usize::from(item.is_object()), ..Weight::default() })
    }
}

/// Why a value would cost far more memory than its text has bytes, if it would.
pub fn too_many(value: &Value) -> Option<String> {
    // A patch may add up to more bytes; its bound is that of the whole text.
    Weight { bytes: 0, ..Weight::of(value) }.excess()
}

/// Whether a value's text has more bytes than that, or about as many.
pub(crate) fn is_longer(value: &Value, bytes: usize) -> bool {
    let weight = Weight::of(value);
    weight.bytes.saturating_add(weight.values) > bytes
}

/// A text, or its beginning.
pub fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}

/// Notes a field that is given twice.
fn note_duplicate(duplicates: &mut Vec<String>, path: &str) {
    let shown = cut(path, LONGEST_PATH);
    if duplicates.len() < MOST_DUPLICATES && !duplicates.contains(&shown) {
        duplicates.push(shown);
    }
}

#[cfg(test)]
mod tests;
