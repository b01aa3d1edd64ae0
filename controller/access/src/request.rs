//! What is asked: by whom, what, of what.

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// Its name.
    pub name: &'a str,
    /// The groups it is in.
    pub groups: &'a [String],
}

/// Something to be done to objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resource<'a> {
    /// `get`, `list`, `create`, ...
    pub verb: &'a str,
    /// Empty for the core group.
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for what is in no namespace, and for all namespaces.
    pub namespace: &'a str,
    /// Empty for a collection, and for what has no name yet.
    pub name: &'a str,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Something about objects.
    Resource(Resource<'a>),
    /// A path that is no resource.
    Path {
        /// The method in small letters.
        verb: &'a str,
        /// The whole path.
        path: &'a str,
    },
}

impl Request<'_> {
    /// Where bindings of a namespace count; empty: nowhere.
    pub(crate) fn namespace(&self) -> &str {
        match self {
            Self::Resource(resource) => resource.namespace,
            Self::Path { .. } => "",
        }
    }
}
