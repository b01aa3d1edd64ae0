//! The network's groups: `discovery.k8s.io`, `networking.k8s.io`.

use super::{Face, Kind, PLAIN, STATUS, Source};
use crate::{defaults, faces, table, validate};

const SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    has_generation: true,
    defaults: defaults::service::endpoint_slice,
    validate: validate::endpoints::slice,
    update: validate::endpoints::slice_update,
    columns: table::service::SLICE_COLUMNS,
    row: table::service::slice_row,
    ..PLAIN
};

pub(super) const KINDS: &[Kind] = &[
    SLICE,
    // For kubectl 1.20, whose `describe endpointslice` knows no other version.
    Kind {
        version: "v1beta1",
        source: Source::Face(Face { show: faces::slice_v1beta1, store: None }),
        verbs: &["get", "list", "watch"],
        refusal: "discovery.k8s.io/v1beta1 is served to be read only: write discovery.k8s.io/v1 instead",
        ..SLICE
    },
    Kind {
        group: "networking.k8s.io",
        kind: "IngressClass",
        plural: "ingressclasses",
        namespaced: false,
        has_generation: true,
        defaults: defaults::cluster::ingress_class,
        validate: validate::ingress::class,
        update: validate::ingress::class_update,
        columns: table::network::INGRESS_CLASS_COLUMNS,
        row: table::network::ingress_class_row,
        ..PLAIN
    },
    Kind {
        group: "networking.k8s.io",
        kind: "Ingress",
        plural: "ingresses",
        short_names: &["ing"],
        subresources: &[STATUS],
        has_generation: true,
        defaults: defaults::service::ingress,
        validate: validate::ingress::ingress,
        columns: table::service::INGRESS_COLUMNS,
        row: table::service::ingress_row,
        update: validate::status::balancer_update,
        ..PLAIN
    },
    Kind {
        group: "networking.k8s.io",
        kind: "NetworkPolicy",
        plural: "networkpolicies",
        short_names: &["netpol"],
        verbs: super::REFUSED,
        refusal: "NetworkPolicies are refused by this version of Warren because it does not enforce them: \
                  a policy that is stored and lets everything through is worse than none",
        columns: table::network::NETWORK_POLICY_COLUMNS,
        row: table::network::network_policy_row,
        ..PLAIN
    },
];
