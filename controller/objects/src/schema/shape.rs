//! The one interface to what a value may be, wherever its schema comes from: the table of Kubernetes' API types, or the
//! OpenAPI schema of a custom resource ([`Structural`]).

use serde_json::Value;

use super::{Apply, Field, Message, Patch, Type, structural::Structural};

/// What one value may be.
#[derive(Debug, Clone, Copy)]
pub enum Schema<'s> {
    /// A row of the table.
    Table(Type),
    /// A part of an OpenAPI schema.
    Structural(&'s Structural),
}

/// The form of a value, and what is in it. In JSON enumerations are texts, and the keys of maps always are.
#[derive(Debug, Clone, Copy)]
pub enum Shape<'s> {
    /// A truth value.
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// Any number.
    Double,
    /// A text.
    String,
    /// Base64.
    Bytes,
    /// RFC 3339.
    Time,
    /// A number with a unit, as a text or a number.
    Quantity,
    /// A whole number of 32 bits, or a text.
    IntOrString,
    /// Any JSON.
    Any,
    /// Named fields.
    Object(Fields<'s>),
    /// A list.
    List(Schema<'s>),
    /// A map by text.
    Map(Schema<'s>),
    /// The value of one of several fields, of which each has another form.
    OneOf(Fields<'s>),
}

/// The fields of an object.
#[derive(Debug, Clone, Copy)]
pub enum Fields<'s> {
    /// Of a message of the table.
    Table(&'static Message),
    /// The properties of an OpenAPI schema.
    Structural(&'s Structural),
}

/// One field of an object.
#[derive(Debug, Clone, Copy)]
pub struct Property<'s> {
    /// What is in it.
    pub schema: Schema<'s>,
    /// Kubernetes' schema lists it under `required`.
    pub is_required: bool,
    /// Zero differs from absent.
    pub is_pointer: bool,
    /// Go's JSON encoder writes its zero.
    pub zero_is_written: bool,
    /// How it takes a strategic merge patch. Custom resources take none.
    pub patch: Patch,
    /// How it takes server-side apply.
    pub apply: Merge<'s>,
}

/// How a list, or a map, takes server-side apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge<'s> {
    /// Lists are owned as a whole, maps and objects field by field.
    Default,
    /// Owned as a whole.
    Atomic,
    /// Scalars, each owned by itself.
    Set,
    /// Objects, matched by some of their fields.
    Keys(Keys<'s>),
}

/// The fields by which the objects of a list are matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys<'s> {
    /// As the table has them.
    Table(&'static [&'static str]),
    /// As an OpenAPI schema has them.
    Structural(&'s [String]),
}

impl<'s> Keys<'s> {
    /// Their names.
    pub fn names(self) -> Vec<&'s str> {
        match self {
            Self::Table(keys) => keys.to_vec(),
            Self::Structural(keys) => keys.iter().map(String::as_str).collect(),
        }
    }
}

impl<'s> Schema<'s> {
    /// The form of the value.
    pub fn shape(self) -> Shape<'s> {
        match self {
            Self::Table(kind) => of_table(kind),
            Self::Structural(schema) => schema.shape(),
        }
    }

    /// How a value takes server-side apply that is in a list or a map.
    pub fn apply(self) -> Merge<'s> {
        match self {
            Self::Table(_) => Merge::Default,
            Self::Structural(schema) => schema.apply(),
        }
    }
}

fn of_table(kind: Type) -> Shape<'static> {
    match kind {
        Type::Bool => Shape::Bool,
        Type::Int32 => Shape::Int32,
        Type::Int64 => Shape::Int64,
        Type::Double => Shape::Double,
        Type::String | Type::Duration => Shape::String,
        Type::Bytes => Shape::Bytes,
        Type::Time | Type::MicroTime => Shape::Time,
        Type::Quantity => Shape::Quantity,
        Type::IntOrString => Shape::IntOrString,
        Type::Json => Shape::Any,
        Type::Object(message) => Shape::Object(Fields::Table(message)),
        Type::List(item) | Type::Items(item) => Shape::List(Schema::Table(*item)),
        Type::Map(value) => Shape::Map(Schema::Table(*value)),
        Type::OneOf(message) => Shape::OneOf(Fields::Table(message)),
    }
}

impl<'s> Fields<'s> {
    /// The type's name; of a custom resource, its kind.
    pub fn name(self) -> &'s str {
        match self {
            Self::Table(message) => message.name,
            Self::Structural(schema) => schema.name(),
        }
    }

    /// The field with a name.
    pub fn get(self, name: &str) -> Option<Property<'s>> {
        match self {
            Self::Table(message) => message.field(name).map(property).or_else(|| {
                let says_its_type = ["apiVersion", "kind"].contains(&name) && self.kind().is_some();
                says_its_type.then_some(TYPE_META)
            }),
            Self::Structural(schema) => schema.property(name),
        }
    }

    /// `apiVersion` and kind of a type whose objects say what they are, also inside of others (a claim's template).
    pub(crate) fn kind(self) -> Option<(String, &'static str)> {
        let Self::Table(message) = self else { return None };
        let root = super::roots().iter().find(|root| std::ptr::eq(root.message, message))?;
        Some((crate::kinds::api_version(root.group, root.version), root.kind))
    }

    /// All fields, with their names.
    pub fn all(self) -> Vec<(&'s str, Property<'s>)> {
        match self {
            Self::Table(message) => {
                message.json_fields().into_iter().map(|field| (field.json, property(field))).collect()
            }
            Self::Structural(schema) => schema.properties(),
        }
    }

    /// Whether server-side apply replaces such values as a whole.
    pub fn is_atomic(self) -> bool {
        match self {
            Self::Table(message) => message.atomic,
            Self::Structural(schema) => schema.is_atomic(),
        }
    }

    /// What stands for a field when it is left out of an object that is matched by it. Of Kubernetes' types only the
    /// protocol of ports has such a default.
    pub fn key_default(self, name: &str) -> Option<Value> {
        match self {
            Self::Table(message) => {
                let is_port = matches!(message.name, "ContainerPort" | "ServicePort") && name == "protocol";
                is_port.then(|| Value::from("TCP"))
            }
            Self::Structural(schema) => schema.default_of(name),
        }
    }

    /// Whether fields without a schema are kept.
    pub fn keeps_unknown(self) -> bool {
        match self {
            Self::Table(_) => false,
            Self::Structural(schema) => schema.keeps_unknown(),
        }
    }

    /// The first field that must be there, because nothing stands for it when it is absent, and is not: a moment has no
    /// zero. (Go's clients write null for the `eventTime` of an event that has other times, and for the
    /// `lastTransitionTime` of a condition whose time they do not say, for which there is a default.)
    pub(crate) fn missing(self, is_there: impl Fn(&str) -> bool) -> Option<&'s str> {
        let Self::Table(message) = self else { return None };
        let needed = |field: &&Field| {
            let is_moment = matches!(field.kind, Type::Time | Type::MicroTime);
            is_moment && field.is_required() && !["eventTime", "lastTransitionTime"].contains(&field.json)
        };
        message.fields.iter().filter(needed).map(|field| field.json).find(|name| !is_there(name))
    }
}

/// What an object says about its own type.
const TYPE_META: Property<'static> = Property {
    schema: Schema::Table(Type::String),
    is_required: false,
    is_pointer: false,
    zero_is_written: false,
    patch: Patch::Default,
    apply: Merge::Default,
};

fn property(field: &'static Field) -> Property<'static> {
    Property {
        schema: Schema::Table(field.kind),
        is_required: field.is_required(),
        is_pointer: field.is_pointer(),
        zero_is_written: field.zero_is_written(),
        patch: field.patch(),
        apply: match field.apply() {
            Apply::Default => Merge::Default,
            Apply::Atomic => Merge::Atomic,
            Apply::Set => Merge::Set,
            Apply::Keys(keys) => Merge::Keys(Keys::Table(keys)),
        },
    }
}
