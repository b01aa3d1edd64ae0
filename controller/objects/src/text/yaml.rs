//! YAML: one document, composed event by event. An alias is a copy, and counts as one; merge keys (`<<`) are merged as
//! in YAML 1.1, which Kubernetes speaks; tags are those of the core schema.

use std::{borrow::Cow, collections::BTreeMap};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

use super::{Budget, DEEPEST_TEXT, Decoded, Fault, MOST_VALUES, Weight, note_duplicate, scalar};

/// Reads one YAML document.
pub fn yaml(text: &[u8]) -> Result<Decoded, Fault> {
    let text = std::str::from_utf8(text).map_err(|error| Fault::Syntax(error.to_string()))?;
    if has_too_many_parts(text) {
        return Err(Fault::TooLarge(format!(
            "YAML that seems to have more than {MOST_PARTS} parts is not read: send JSON"
        )));
    }
    let mut composer = Composer::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| Fault::Syntax(error.to_string()))?;
        composer.take(event).map_err(|fault| match fault {
            Fault::Syntax(why) => {
                Fault::Syntax(format!("{why} at line {} column {}", span.start.line(), span.start.col() + 1))
            }
            fault @ Fault::TooLarge(_) => fault,
        })?;
    }
    Ok(Decoded { value: composer.root.unwrap_or_default(), duplicates: composer.duplicates })
}

/// The most parts that a YAML text may seem to have that its parser is given. It keeps what is in brackets until these
/// end, because all of it could be a key: some 300 bytes for each part, before anybody could have counted values. An
/// object of the most values that is written in JSON has as many: key, colon, value and comma.
const MOST_PARTS: usize = 4 * MOST_VALUES;

/// Counts the marks that parts begin or end with, wherever they stand: in a text, too. Quotes come in pairs.
fn has_too_many_parts(text: &str) -> bool {
    let (mut marks, mut quotes) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b',' | b'[' | b']' | b'{' | b'}' | b':' | b'?' | b'*' | b'&' | b'!' => marks += 1,
            b'"' | b'\'' => quotes += 1,
            _ => {}
        }
    }
    marks + quotes / 2 > MOST_PARTS
}

fn wrong<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Syntax(why.into()))
}

/// A collection that is not at its end.
struct Open {
    anchor: usize,
    collection: Collection,
}

enum Collection {
    List(Vec<Value>),
    Map {
        map: Map<String, Value>,
        /// The field whose value comes next.
        key: Option<Key>,
        /// What `<<` brings; fields of the map's own, and earlier maps, win.
        merged: Vec<Map<String, Value>>,
    },
}

enum Key {
    Field(String),
    Merge,
}

#[derive(Default)]
struct Composer {
    open: Vec<Open>,
    root: Option<Value>,
    documents: usize,
    /// What may be repeated, with what it weighs.
    anchored: BTreeMap<usize, (Value, Weight)>,
    duplicates: Vec<String>,
    budget: Budget,
}

impl Composer {
    fn take(&mut self, event: Event<'_>) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return wrong("there is more than one document: send each by itself");
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref()),
            Event::Alias(anchor) => self.alias(anchor),
            Event::SequenceStart(anchor, tag) => {
                self.begin(anchor, tag.as_ref(), "seq", Collection::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let map = Collection::Map { map: Map::new(), key: None, merged: Vec::new() };
                self.begin(anchor, tag.as_ref(), "map", map)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    /// Whether what comes next is a field's name.
    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { collection: Collection::Map { key: None, .. }, .. }))
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), Fault> {
        let is_plain = style == ScalarStyle::Plain;
        if self.expects_key() {
            self.budget.bytes(text.len())?;
            self.keep_anchor(anchor, &Value::from(text))?;
            let is_merge = text == "<<" && is_plain && tag.is_none_or(|tag| name(tag) == "merge");
            self.key(if is_merge { Key::Merge } else { Key::Field(text.to_owned()) });
            return Ok(());
        }
        self.budget.value()?;
        let value = match tag.map(name).as_deref() {
            None if is_plain => scalar::plain(text).map_err(Fault::Syntax)?,
            None | Some("!" | "str") => Value::from(text),
            Some(tag @ ("null" | "bool" | "int" | "float")) => tagged(tag, text)?,
            Some(other) => return wrong(format!("the tag {other:?} is not supported for a scalar")),
        };
        if let Value::String(text) = &value {
            self.budget.bytes(text.len())?;
        }
        self.keep_anchor(anchor, &value)?;
        self.put(value)
    }

    fn alias(&mut self, anchor: usize) -> Result<(), Fault> {
        let Some((value, weight)) = self.anchored.get(&anchor) else {
            return wrong("an alias stands inside what it repeats");
        };
        self.budget.spend(*weight)?;
        let value = value.clone();
        if !self.expects_key() {
            return self.put(value);
        }
        match value {
            Value::String(text) => self.key(Key::Field(text)),
            Value::Bool(_) | Value::Number(_) => self.key(Key::Field(value.to_string())),
            _ => return wrong("a field's name must be a text"),
        }
        Ok(())
    }

    fn begin(
        &mut self,
        anchor: usize,
        tag: Option<&Cow<'_, Tag>>,
        expected: &str,
        collection: Collection,
    ) -> Result<(), Fault> {
        if self.expects_key() {
            return wrong("a field's name must be a text");
        }
        if let Some(tag) = tag.map(|tag| name(tag)).filter(|tag| tag != "!" && tag != expected) {
            return wrong(format!("the tag {tag:?} is not supported for a collection"));
        }
        if self.open.len() >= DEEPEST_TEXT {
            return wrong(format!("it is nested more than {DEEPEST_TEXT} levels deep"));
        }
        self.budget.value()?;
        self.open.push(Open { anchor, collection });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(Open { anchor, collection }) = self.open.pop() else { return Ok(()) };
        let value = match collection {
            Collection::List(list) => Value::Array(list),
            Collection::Map { mut map, merged, .. } => {
                for (key, value) in merged.into_iter().flatten() {
                    map.entry(key).or_insert(value);
                }
                Value::Object(map)
            }
        };
        self.keep_anchor(anchor, &value)?;
        self.put(value)
    }

    /// The copy that is kept for aliases counts, too: an anchor within an anchor would keep the same again.
    fn keep_anchor(&mut self, anchor: usize, value: &Value) -> Result<(), Fault> {
        if anchor > 0 {
            let weight = Weight::of(value);
            self.budget.spend(weight)?;
            self.anchored.insert(anchor, (value.clone(), weight));
        }
        Ok(())
    }

    fn key(&mut self, next: Key) {
        let given_twice = match (&next, self.open.last()) {
            (Key::Field(name), Some(Open { collection: Collection::Map { map, .. }, .. })) => {
                map.contains_key(name)
            }
            _ => false,
        };
        if let Some(Open { collection: Collection::Map { key, .. }, .. }) = self.open.last_mut() {
            *key = Some(next);
        }
        if given_twice {
            let path = self.path();
            note_duplicate(&mut self.duplicates, &path);
        }
    }

    /// Where we are: `spec.containers[0].name`.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.collection {
                Collection::List(list) => path.push_str(&format!("[{}]", list.len())),
                Collection::Map { key: Some(Key::Field(key)), .. } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key);
                }
                Collection::Map { .. } => {}
            }
        }
        path
    }

    fn put(&mut self, value: Value) -> Result<(), Fault> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(value);
            return Ok(());
        };
        match &mut open.collection {
            Collection::List(list) => {
                self.budget.item(&value)?;
                list.push(value);
            }
            Collection::Map { map, key, merged } => match key.take() {
                Some(Key::Field(key)) => drop(map.insert(key, value)),
                Some(Key::Merge) => merge(value, merged)?,
                None => {}
            },
        }
        Ok(())
    }
}

/// `<<` takes a map, or a list of maps.
fn merge(value: Value, merged: &mut Vec<Map<String, Value>>) -> Result<(), Fault> {
    let maps = match value {
        Value::Array(maps) => maps,
        one => vec![one],
    };
    for map in maps {
        match map {
            Value::Object(map) => merged.push(map),
            _ => return wrong("a merge key (<<) takes a map or a list of maps"),
        }
    }
    Ok(())
}

/// The part of a tag behind that of YAML's own; any other as it is written.
fn name(tag: &Tag) -> String {
    let whole = format!("{}{}", tag.handle, tag.suffix);
    let own = whole.strip_prefix("tag:yaml.org,2002:").or_else(|| whole.strip_prefix("!!"));
    own.map(str::to_owned).unwrap_or(whole)
}

/// A scalar that says what it is must be that.
fn tagged(tag: &str, text: &str) -> Result<Value, Fault> {
    let value = scalar::plain(text).map_err(Fault::Syntax)?;
    let fits = match (tag, &value) {
        ("null", Value::Null) | ("bool", Value::Bool(_)) | ("float", Value::Number(_)) => true,
        ("int", Value::Number(number)) => !number.is_f64(),
        _ => false,
    };
    if fits { Ok(value) } else { wrong(format!("{text:?} is not of the type that its tag {tag:?} says")) }
}
