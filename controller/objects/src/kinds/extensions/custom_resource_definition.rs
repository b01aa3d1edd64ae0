//! CustomResourceDefinition: its entry.

use crate::kinds::{CLUSTER, Entry};

pub(crate) const ENTRY: Entry = Entry {
    group: "apiextensions.k8s.io",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    short_names: &["crd", "crds"],
    refusal: "CustomResourceDefinitions are refused: custom resources are not served by this version of Warren",
    ..CLUSTER
};
