//! APIService: its entry.

use crate::kinds::{CLUSTER, Kind};

pub(crate) const ENTRY: Kind = Kind {
    group: "apiregistration.k8s.io",
    kind: "APIService",
    plural: "apiservices",
    refusal: "APIServices are refused: aggregated APIs are not served by this version of Warren",
    ..CLUSTER
};
