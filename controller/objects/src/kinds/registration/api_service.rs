//! APIService: its entry.

use crate::kinds::{CLUSTER, Entry};

pub(crate) const ENTRY: Entry = Entry {
    group: "apiregistration.k8s.io",
    kind: "APIService",
    plural: "apiservices",
    refusal: "APIServices are refused: aggregated APIs are not served by this version of Warren",
    ..CLUSTER
};
