//! What becomes of every field of every served kind: Warren acts upon it, the write is answered with a warning or
//! refused, or nothing anywhere behaves by it.
//!
//! One row per field of a type, in the file of the type's concern. Admission ([`crate::unsupported`]) makes its warnings
//! and refusals of these rows; a test walks the table of API types and fails for a field without one, another sees each
//! warning and refusal come out of the API. To act upon a field: write the code, then change its row to `Acts`.

mod access;
mod autoscaler;
mod cluster;
mod container;
mod meta;
mod network;
mod pod;
mod volume;
mod workload;

use std::fmt;

use serde_json::Value;

use crate::{
    json::is_empty,
    kinds::Kind,
    schema::{Message, Type as Content},
};

/// What becomes of a field, or of one entry of a map.
#[derive(Debug, Clone, Copy)]
pub enum Class {
    /// Warren does what it says. Where it is read: a file or a folder of this repository.
    Acts(&'static str),
    /// It has no meaning but that of the fields in it, which have rows.
    Leads,
    /// Stored; a write is answered with this text as a warning.
    Warns(When, &'static str),
    /// A write is refused, with this advice.
    Refused(When, &'static str),
    /// Nothing behaves by it, in Kubernetes neither; why.
    Informs(&'static str),
    /// It says nothing without this other field, whose row speaks for both.
    Follows(&'static str),
    /// A map whose entries have classes of their own.
    Keys(&'static [Entries]),
}

/// Classes of the entries of a map by name, of which the first that fits counts; `*` at the end of one stands for
/// anything. An entry with several classes has several rows of one name.
pub type Entries = &'static [(&'static str, Class)];

/// When what a field says is not done.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// It says anything.
    Given,
    /// It says something else than these, which are the default or what happens anyway.
    Not(&'static [&'static str]),
    /// It says one of these.
    OneOf(&'static [&'static str]),
    /// It is true.
    True,
    /// It is false.
    False,
    /// It is a number other than 0.
    NotZero,
    /// The function says so.
    That(fn(&Value) -> bool),
}

impl When {
    /// Whether a value says what is not done.
    pub(crate) fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Given => !is_empty(value),
            Self::Not(fine) => value.as_str().is_some_and(|text| !text.is_empty() && !fine.contains(&text)),
            Self::OneOf(texts) => value.as_str().is_some_and(|text| texts.contains(&text)),
            Self::True => value.as_bool() == Some(true),
            Self::False => value.as_bool() == Some(false),
            Self::NotZero => value.as_i64().is_some_and(|number| number != 0),
            Self::That(holds) => holds(value),
        }
    }
}

/// Some fields of a type, by their names with blanks between them, and what becomes of each. A dotted name is a field
/// further down, whose row in its own type does not count then. A field may have several rows.
struct Row(&'static str, Class);

impl Row {
    fn is_of(&self, field: &str) -> bool {
        self.0.split(' ').any(|name| name == field)
    }
}

/// The end of a type's package, its name, its rows.
type Rows = (&'static str, &'static str, &'static [Row]);

/// What is said of most fields that are only kept.
const STORED: &str = "stored, but not acted upon by this version of Warren";

// Where fields are read.
const COMPILER: &str = "controller/compile/src";
const PLANNERS: &str = "controller/plan/src";
const API: &str = "controller/api/src";
const CHECKS: &str = "controller/objects/src/validate";
const DEFAULTS: &str = "controller/objects/src/defaults";
const KIND: &str = "controller/objects/src/kinds";
const GATE: &str = "controller/write/src";
const DISRUPTION: &str = "controller/objects/src/disruption.rs";
const ACCESS: &str = "controller/access/src";
const QUOTAS: &str = "controller/objects/src/quotas.rs";

fn types() -> impl Iterator<Item = &'static Rows> {
    let tables =
        [pod::TYPES, container::TYPES, volume::TYPES, workload::TYPES, network::TYPES, cluster::TYPES];
    tables.into_iter().chain([meta::TYPES, access::TYPES, autoscaler::TYPES]).flatten()
}

/// Every row's type and field, for the test that the table of API types has them.
pub fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    types().flat_map(|(_, of, rows)| rows.iter().flat_map(|row| row.0.split(' ')).map(|name| (*of, name)))
}

fn rows_of(message: &Message) -> &'static [Row] {
    let is_it = |(package, name, _): &&Rows| {
        *name == message.name
            && message.package.strip_suffix(package).is_some_and(|before| before.ends_with('.'))
    };
    types().find(is_it).map_or(&[], |(_, _, rows)| rows)
}

/// One step on the way to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Into a field.
    Field(&'static str),
    /// Into each item of a list.
    Each,
}

/// A field of a kind and what becomes of it.
#[derive(Debug, Clone)]
pub struct Field {
    /// The way from the object to the field.
    pub steps: Vec<Step>,
    /// Its classes; none is a gap in the tables.
    pub classes: Vec<Class>,
    /// What the table of API types says is in it.
    pub content: Content,
    /// The type that it is a field of.
    pub of: &'static Message,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                Step::Field(name) if index == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Each => f.write_str("[*]")?,
            }
        }
        Ok(())
    }
}

/// Every field of a built-in kind. Below one that is not acted upon nothing is listed: its class stands for all of it.
pub fn fields(kind: &Kind) -> Vec<Field> {
    kind.message().map(fields_of).unwrap_or_default()
}

/// Every field of a message that is the body of a request.
pub fn fields_of(root: &'static Message) -> Vec<Field> {
    let mut walk = Walk::default();
    walk.message(root);
    walk.found
}

/// The fields of a message about which something is to be said to clients.
pub(crate) fn telling(root: &'static Message) -> Vec<Field> {
    let tells = |field: &Field| field.classes.iter().any(Class::tells);
    fields_of(root).into_iter().filter(tells).collect()
}

impl Class {
    fn tells(&self) -> bool {
        match self {
            Self::Warns(..) | Self::Refused(..) => true,
            Self::Keys(tables) => tables.iter().copied().flatten().any(|(_, class)| class.tells()),
            Self::Acts(_) | Self::Leads | Self::Informs(_) | Self::Follows(_) => false,
        }
    }
}

/// The classes of one entry of a map.
pub(crate) fn classes_of_entry<'t>(
    tables: &'static [Entries],
    name: &'t str,
) -> impl Iterator<Item = &'static Class> + use<'t> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    let first =
        tables.iter().copied().flatten().find(|(pattern, _)| fits(pattern)).map(|(pattern, _)| *pattern);
    let rows = tables.iter().copied().flatten();
    rows.filter(move |(pattern, _)| Some(*pattern) == first).map(|(_, class)| class)
}

/// On the way through the table of API types.
#[derive(Default)]
struct Walk {
    /// The rows of each type that we are in, the type, and how many names lead to it.
    types: Vec<(&'static [Row], &'static Message, usize)>,
    names: Vec<&'static str>,
    steps: Vec<Step>,
    found: Vec<Field>,
}

impl Walk {
    fn message(&mut self, message: &'static Message) {
        self.types.push((rows_of(message), message, self.names.len()));
        for field in message.json_fields() {
            self.names.push(field.json);
            self.steps.push(Step::Field(field.json));
            self.field(message, field.kind);
            self.steps.pop();
            self.names.pop();
        }
        self.types.pop();
    }

    fn field(&mut self, of: &'static Message, content: Content) {
        let classes = self.classes();
        let acts =
            classes.is_empty() || classes.iter().any(|class| matches!(class, Class::Acts(_) | Class::Leads));
        self.found.push(Field { steps: self.steps.clone(), classes, content, of });
        if acts {
            self.below(content);
        }
    }

    fn below(&mut self, content: Content) {
        match content {
            Content::Object(message)
                if !self.types.iter().any(|(_, other, _)| std::ptr::eq(*other, message)) =>
            {
                self.message(message);
            }
            Content::List(item) | Content::Items(item) => {
                self.steps.push(Step::Each);
                self.below(*item);
                self.steps.pop();
            }
            _ => {}
        }
    }

    /// By the outermost type that has rows for the field where we are.
    fn classes(&self) -> Vec<Class> {
        let of_type = |(rows, _, depth): &(&'static [Row], &Message, usize)| {
            let name = self.names[*depth..].join(".");
            rows.iter().filter(|row| row.is_of(&name)).map(|row| row.1).collect::<Vec<_>>()
        };
        self.types.iter().map(of_type).find(|classes| !classes.is_empty()).unwrap_or_default()
    }
}
