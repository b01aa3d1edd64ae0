//! Sets of fields: a tree of path elements.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

/// One step of a path, spelt as in `fieldsV1`: `f:spec`, `k:{"name":"web"}`, `v:"a"`, `i:3`. Its JSON is canonical, so that
/// equal elements are equal texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element(pub(crate) Box<str>);

impl Element {
    /// A field of an object, or a key of a map.
    pub fn field(name: &str) -> Self {
        Self(format!("f:{name}").into())
    }

    /// The object of a list that has these values in the fields by which its objects are matched.
    pub fn key(fields: Map<String, Value>) -> Self {
        Self(format!("k:{}", canonical(Value::Object(fields))).into())
    }

    /// The member of a list of scalars.
    pub fn value(value: &Value) -> Self {
        Self(format!("v:{}", canonical(value.clone())).into())
    }

    /// The name, if it is a field.
    pub fn name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }

    /// As it is spelt in `fieldsV1`.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Numbers without a fraction are whole, however they were spelt.
pub(crate) fn canonical(value: Value) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            if float.fract() == 0.0 && float.abs() < EXACT {
                #[allow(clippy::cast_possible_truncation)]
                let whole = float as i64;
                return whole.into();
            }
            Value::Number(number)
        }
        Value::Object(map) => map.into_iter().map(|(name, value)| (name, canonical(value))).collect(),
        Value::Array(items) => items.into_iter().map(canonical).collect(),
        other => other,
    }
}

/// As paths are shown: `.spec`, `[name="web"]`, `[="a"]`, `[3]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, rest) = self.0.split_at(2);
        match form {
            "f:" => write!(f, ".{rest}"),
            "k:" => {
                let fields: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
                let texts: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", texts.join(","))
            }
            "v:" => write!(f, "[={rest}]"),
            _ => write!(f, "[{rest}]"),
        }
    }
}

/// Where a field is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Path(pub Vec<Element>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| write!(f, "{element}"))
    }
}

/// A set of fields. A field may be in it without those below it, and the other way round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    /// No node is empty: it is a member, or has some below.
    pub(crate) nodes: BTreeMap<Element, Node>,
}

/// What a set says about one element.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Node {
    pub(crate) is_member: bool,
    pub(crate) below: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }
}

impl Set {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a field.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let node = self.nodes.entry(first.clone()).or_default();
        if rest.is_empty() { node.is_member = true } else { node.below.insert(rest) }
    }

    /// Whether a field is in it.
    pub fn has(&self, path: &[Element]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let node = self.nodes.get(first);
        node.is_some_and(|node| if rest.is_empty() { node.is_member } else { node.below.has(rest) })
    }

    /// Whether a field or some of what is below it is in it.
    pub fn touches(&self, element: &Element) -> bool {
        self.nodes.contains_key(element)
    }

    /// Says what is so about an element; nothing is kept about one that is empty.
    pub(crate) fn put(&mut self, element: Element, is_member: bool, below: Set) {
        let node = Node { is_member, below };
        if !node.is_empty() {
            self.nodes.insert(element, node);
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for (element, node) in &other.nodes {
            let own = self.nodes.entry(element.clone()).or_default();
            own.is_member |= node.is_member;
            own.below = std::mem::take(&mut own.below).union(&node.below);
        }
        self
    }

    /// What is not in the other. What is below a field of the other stays.
    #[must_use]
    pub fn difference(mut self, other: &Self) -> Self {
        for (element, node) in &other.nodes {
            let Some(own) = self.nodes.get_mut(element) else { continue };
            own.is_member &= !node.is_member;
            own.below = std::mem::take(&mut own.below).difference(&node.below);
            if own.is_empty() {
                self.nodes.remove(element);
            }
        }
        self
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (element, node) in &self.nodes {
            if let Some(others) = other.nodes.get(element) {
                let is_member = node.is_member && others.is_member;
                both.put(element.clone(), is_member, node.below.intersection(&others.below));
            }
        }
        both
    }

    /// What is at or below some of the first elements.
    #[must_use]
    pub fn only(mut self, keeps: impl Fn(&Element) -> bool) -> Self {
        self.nodes.retain(|element, _| keeps(element));
        self
    }

    /// All fields, in order.
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        self.gather(&mut Vec::new(), &mut paths);
        paths
    }

    fn gather(&self, at: &mut Vec<Element>, paths: &mut Vec<Path>) {
        for (element, node) in &self.nodes {
            at.push(element.clone());
            if node.is_member {
                paths.push(Path(at.clone()));
            }
            node.below.gather(at, paths);
            at.pop();
        }
    }
}
