//! Services, where they lead, and Ingresses.

use super::{
    COMPILER,
    Class::{Acts, Follows, Informs, Keys, Refused, Warns},
    Entries, PLANNERS, Row, Rows, STORED,
    When::{self, Given, Not, NotZero, OneOf},
    container::SCTP,
};
use crate::ingress_annotations;

const STATUS: Row = Row("status", Informs("written by the system"));
const BALANCER: &str =
    "stored, but this version of Warren asks no load balancer for an address: use an Ingress";
const TOPOLOGY: &str = "stored, but traffic goes to every ready endpoint in this version of Warren";

/// Annotations for the load balancers of clouds and of machines, which only their own controllers read.
const SERVICE_ANNOTATIONS: Entries = &[
    ("service.kubernetes.io/topology-mode", Warns(Not(&["Disabled", "disabled"]), TOPOLOGY)),
    ("service.kubernetes.io/topology-aware-hints", Warns(Not(&["Disabled", "disabled"]), TOPOLOGY)),
    (
        "service.alpha.kubernetes.io/tolerate-unready-endpoints",
        Warns(Given, "stored, but not acted upon: use spec.publishNotReadyAddresses"),
    ),
    ("service.beta.kubernetes.io/*", Warns(Given, BALANCER)),
    ("service.alpha.kubernetes.io/*", Warns(Given, BALANCER)),
    ("service.kubernetes.io/*", Warns(Given, STORED)),
    ("cloud.google.com/*", Warns(Given, BALANCER)),
    ("networking.gke.io/*", Warns(Given, BALANCER)),
    ("load-balancer.hetzner.cloud/*", Warns(Given, BALANCER)),
    ("loadbalancer.openstack.org/*", Warns(Given, BALANCER)),
    ("metallb.universe.tf/*", Warns(Given, BALANCER)),
    ("metallb.io/*", Warns(Given, BALANCER)),
    ("kube-vip.io/*", Warns(Given, BALANCER)),
    ("oci.oraclecloud.com/*", Warns(Given, BALANCER)),
    ("traefik.ingress.kubernetes.io/*", Warns(Given, STORED)),
    ("*", Acts(COMPILER)),
];

const SERVICE_LABELS: Entries = &[
    (
        "service.kubernetes.io/service-proxy-name",
        Warns(Given, "stored, but every node leads to the service: no other proxy can take it over"),
    ),
    ("*", Acts(PLANNERS)),
];

/// Protocols towards pods that an HTTP proxy would have to speak.
const SPOKEN: When =
    OneOf(&["kubernetes.io/h2c", "kubernetes.io/wss", "h2c", "http2", "grpc", "https", "HTTPS"]);

pub(super) const TYPES: &[Rows] = &[
    (
        "core.v1",
        "Service",
        &[
            Row("metadata spec", Acts(COMPILER)),
            Row("metadata.labels", Keys(&[SERVICE_LABELS])),
            Row("metadata.annotations", Keys(&[SERVICE_ANNOTATIONS])),
            STATUS,
        ],
    ),
    (
        "core.v1",
        "ServiceSpec",
        &[
            Row("ports selector type publishNotReadyAddresses", Acts(PLANNERS)),
            Row("clusterIP externalName sessionAffinity sessionAffinityConfig", Acts(COMPILER)),
            Row("clusterIPs ipFamilies ipFamilyPolicy", Acts(super::KIND)),
            Row(
                "type",
                Warns(
                    OneOf(&["NodePort"]),
                    "stored, but node ports are not opened by this version of Warren",
                ),
            ),
            Row(
                "type",
                Warns(
                    OneOf(&["LoadBalancer"]),
                    "stored, but no address is assigned and node ports are not opened by this version of Warren",
                ),
            ),
            Row("allocateLoadBalancerNodePorts", Follows("type")),
            Row(
                "externalIPs loadBalancerClass loadBalancerIP loadBalancerSourceRanges",
                Warns(Given, STORED),
            ),
            Row("externalTrafficPolicy internalTrafficPolicy", Warns(Not(&["Cluster"]), STORED)),
            Row("healthCheckNodePort", Warns(NotZero, STORED)),
            Row("trafficDistribution", Warns(Given, STORED)),
        ],
    ),
    (
        "core.v1",
        "ServicePort",
        &[
            Row("name protocol port targetPort appProtocol", Acts(PLANNERS)),
            Row("protocol", Warns(OneOf(&["SCTP"]), SCTP)),
            Row(
                "appProtocol",
                Warns(
                    SPOKEN,
                    "passed on, but the gateways do not go by it: gRPC is spoken by the annotation backend-protocol",
                ),
            ),
            Row("nodePort", Follows("spec.type")),
        ],
    ),
    ("core.v1", "SessionAffinityConfig", &[Row("clientIP", Acts(COMPILER))]),
    ("core.v1", "ClientIPConfig", &[Row("timeoutSeconds", Acts(COMPILER))]),
    ("core.v1", "Endpoints", &[Row("metadata subsets", Acts(PLANNERS))]),
    ("core.v1", "EndpointSubset", &[Row("addresses notReadyAddresses ports", Acts(PLANNERS))]),
    (
        "core.v1",
        "EndpointAddress",
        &[
            Row("ip hostname nodeName", Acts(PLANNERS)),
            Row("targetRef", Informs("names the pod, for people and for EndpointSlices")),
        ],
    ),
    ("core.v1", "EndpointPort", &[Row("name port protocol appProtocol", Acts(PLANNERS))]),
    (
        "discovery.v1",
        "EndpointSlice",
        &[
            Row("metadata endpoints ports addressType", Acts(COMPILER)),
            Row(
                "addressType",
                Warns(
                    Not(&["IPv4"]),
                    "stored, but only addresses of type IPv4 are used by this version of Warren",
                ),
            ),
        ],
    ),
    (
        "discovery.v1",
        "Endpoint",
        &[
            Row("addresses conditions hostname nodeName", Acts(COMPILER)),
            Row("targetRef", Informs("names the pod, for people and for Endpoints")),
            Row("hints", Warns(Given, TOPOLOGY)),
            Row(
                "zone deprecatedTopology",
                Informs("only hints are acted upon, made of it by whoever writes them"),
            ),
        ],
    ),
    ("discovery.v1", "EndpointConditions", &[Row("ready serving terminating", Acts(COMPILER))]),
    (
        "discovery.v1",
        "EndpointPort",
        &[
            Row("name protocol port", Acts(COMPILER)),
            Row("appProtocol", Informs("copied of the service, whose field speaks")),
        ],
    ),
    (
        "networking.v1",
        "Ingress",
        &[
            Row("metadata spec", Acts(COMPILER)),
            Row(
                "metadata.annotations",
                Keys(&[ingress_annotations::ACTED_UPON, ingress_annotations::NOT_ACTED_UPON]),
            ),
            STATUS,
        ],
    ),
    (
        "networking.v1",
        "IngressSpec",
        &[
            Row("defaultBackend rules tls", Acts(COMPILER)),
            Row("ingressClassName", Acts(PLANNERS)),
            Row("ingressClassName", Warns(Not(&["warren"]), ingress_annotations::OTHER_CLASS)),
        ],
    ),
    (
        "networking.v1",
        "IngressBackend",
        &[Row("service", Acts(COMPILER)), Row("resource", Refused(Given, "name a Service"))],
    ),
    ("networking.v1", "IngressServiceBackend", &[Row("name port", Acts(COMPILER))]),
    ("networking.v1", "ServiceBackendPort", &[Row("name number", Acts(COMPILER))]),
    ("networking.v1", "IngressTLS", &[Row("hosts secretName", Acts(COMPILER))]),
    ("networking.v1", "IngressRule", &[Row("host http", Acts(COMPILER))]),
    ("networking.v1", "HTTPIngressRuleValue", &[Row("paths", Acts(COMPILER))]),
    ("networking.v1", "HTTPIngressPath", &[Row("path pathType backend", Acts(COMPILER))]),
    ("networking.v1", "IngressClass", &[Row("metadata spec", Acts(super::KIND))]),
    (
        "networking.v1",
        "IngressClassSpec",
        &[Row("controller", Acts(PLANNERS)), Row("parameters", Warns(Given, STORED))],
    ),
];
