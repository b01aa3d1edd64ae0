//! Annotations of an Ingress: which ones the gateways act upon, and what is said of those of other controllers.

use crate::classes::{
    Class::{Acts, Refused, Warns},
    Entries,
    When::{Given, Not},
};

/// Where they are compiled into routes.
const ROUTES: &str = "controller/plan/src/ingress";
/// Where classes are told apart.
const CLASSES: &str = "controller/plan/src";

/// What is said of an Ingress that names the class of another controller.
pub(crate) const OTHER_CLASS: &str = "stored, but Warren's gateways serve this class only where an IngressClass of its name \
     has their controller; \"warren\" has";

/// What the gateways act upon. A value that they do not understand has a row of its own.
pub const ACTED_UPON: Entries = &[
    ("kubernetes.io/ingress.class", Acts(CLASSES)),
    ("kubernetes.io/ingress.class", Warns(Not(&["warren"]), OTHER_CLASS)),
    ("nginx.ingress.kubernetes.io/allowlist-source-range", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/app-root", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/auth-realm", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/auth-secret", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/auth-secret-type", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/auth-type", Acts(ROUTES)),
    (
        "nginx.ingress.kubernetes.io/auth-type",
        Refused(
            Not(&["basic", "Basic", "BASIC"]),
            "the gateways know \"basic\" alone; without it everybody would be let in",
        ),
    ),
    ("nginx.ingress.kubernetes.io/backend-protocol", Acts(ROUTES)),
    (
        "nginx.ingress.kubernetes.io/backend-protocol",
        Warns(
            Not(&["HTTP", "http", "AUTO_HTTP", "auto_http", "GRPC", "grpc"]),
            "the gateways speak HTTP and GRPC without TLS to pods: requests are answered with an error",
        ),
    ),
    ("nginx.ingress.kubernetes.io/force-ssl-redirect", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/permanent-redirect", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/permanent-redirect-code", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/proxy-body-size", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/proxy-connect-timeout", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/proxy-read-timeout", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/proxy-send-timeout", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/rewrite-target", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/ssl-redirect", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/temporal-redirect", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/temporal-redirect-code", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/upstream-vhost", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/use-regex", Acts(ROUTES)),
    ("nginx.ingress.kubernetes.io/whitelist-source-range", Acts(ROUTES)),
];

/// Whether the gateways act upon an annotation.
pub fn is_acted_upon(name: &str) -> bool {
    ACTED_UPON.iter().any(|(known, class)| *known == name && matches!(class, Acts(_)))
}

const IGNORED: &str = "stored, but not acted upon by this version of Warren's gateways";
const OTHERS: &str = "it is for another controller; Warren's gateways do not act upon it";
const SNIPPET: &str =
    "stored, but never acted upon: Warren's gateways take no configuration of other programs";
const ONE_PROTOCOL: &str = "stored, but not acted upon: use the annotation backend-protocol";
const CERTIFICATES: &str = "no certificate is made by it, for cert-manager cannot run on this version of Warren: put one into the Secret of \
     spec.tls";
/// What keeps clients out is refused, for to store it would be to let all of them in.
const LETS_IN: &str = "without it everybody would be let in: leave it out if that is meant, or use auth-type \"basic\" or \
     whitelist-source-range";

/// What the gateways leave alone, by the controllers for which it is meant.
pub const NOT_ACTED_UPON: Entries = &[
    ("nginx.ingress.kubernetes.io/auth-url", Refused(Given, LETS_IN)),
    ("nginx.ingress.kubernetes.io/auth-tls-secret", Refused(Given, LETS_IN)),
    ("nginx.ingress.kubernetes.io/denylist-source-range", Refused(Given, LETS_IN)),
    ("nginx.ingress.kubernetes.io/enable-global-auth", Warns(Not(&["false"]), IGNORED)),
    ("nginx.ingress.kubernetes.io/secure-backends", Warns(Not(&["false"]), ONE_PROTOCOL)),
    ("nginx.ingress.kubernetes.io/grpc-backend", Warns(Not(&["false"]), ONE_PROTOCOL)),
    ("nginx.ingress.kubernetes.io/configuration-snippet", Warns(Given, SNIPPET)),
    ("nginx.ingress.kubernetes.io/server-snippet", Warns(Given, SNIPPET)),
    ("nginx.ingress.kubernetes.io/stream-snippet", Warns(Given, SNIPPET)),
    ("nginx.ingress.kubernetes.io/auth-snippet", Warns(Given, SNIPPET)),
    ("nginx.ingress.kubernetes.io/modsecurity-snippet", Warns(Given, SNIPPET)),
    // Canaries, affinity, CORS, limits, buffers, rewrites by snippets, and whatever comes.
    ("nginx.ingress.kubernetes.io/*", Warns(Given, IGNORED)),
    ("nginx.org/basic-auth-secret", Refused(Given, LETS_IN)),
    ("nginx.org/*", Warns(Given, OTHERS)),
    ("nginx.com/jwt-key", Refused(Given, LETS_IN)),
    ("nginx.com/*", Warns(Given, OTHERS)),
    ("ingress.kubernetes.io/auth-type", Refused(Given, LETS_IN)),
    ("ingress.kubernetes.io/auth-url", Refused(Given, LETS_IN)),
    ("ingress.kubernetes.io/whitelist-source-range", Refused(Given, LETS_IN)),
    ("ingress.kubernetes.io/*", Warns(Given, OTHERS)),
    ("traefik.ingress.kubernetes.io/auth-type", Refused(Given, LETS_IN)),
    ("traefik.ingress.kubernetes.io/whitelist-source-range", Refused(Given, LETS_IN)),
    ("traefik.ingress.kubernetes.io/*", Warns(Given, OTHERS)),
    ("haproxy.org/auth-type", Refused(Given, LETS_IN)),
    ("haproxy.org/allow-list", Refused(Given, LETS_IN)),
    ("haproxy.org/whitelist", Refused(Given, LETS_IN)),
    ("haproxy.org/*", Warns(Given, OTHERS)),
    ("haproxy-ingress.github.io/auth-secret", Refused(Given, LETS_IN)),
    ("haproxy-ingress.github.io/auth-url", Refused(Given, LETS_IN)),
    ("haproxy-ingress.github.io/allowlist-source-range", Refused(Given, LETS_IN)),
    ("haproxy-ingress.github.io/*", Warns(Given, OTHERS)),
    ("alb.ingress.kubernetes.io/auth-type", Refused(Not(&["none"]), LETS_IN)),
    ("alb.ingress.kubernetes.io/inbound-cidrs", Refused(Not(&["0.0.0.0/0", "0.0.0.0/0,::/0"]), LETS_IN)),
    ("alb.ingress.kubernetes.io/*", Warns(Given, OTHERS)),
    ("appgw.ingress.kubernetes.io/*", Warns(Given, OTHERS)),
    ("konghq.com/*", Warns(Given, OTHERS)),
    ("projectcontour.io/*", Warns(Given, OTHERS)),
    ("networking.gke.io/*", Warns(Given, OTHERS)),
    ("cloud.google.com/*", Warns(Given, OTHERS)),
    ("ingress.gcp.kubernetes.io/*", Warns(Given, OTHERS)),
    ("kubernetes.io/ingress.*", Warns(Given, OTHERS)),
    ("kubernetes.io/tls-acme", Warns(Not(&["false"]), CERTIFICATES)),
    ("cert-manager.io/*", Warns(Given, CERTIFICATES)),
    ("acme.cert-manager.io/*", Warns(Given, CERTIFICATES)),
    ("certmanager.k8s.io/*", Warns(Given, CERTIFICATES)),
    // Labels of tools, and what their own programs read through the API: external-dns, Prometheus, Helm, Argo CD.
    ("*", Acts(ROUTES)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_act_is_what_the_gateways_know() {
        let nginx = ACTED_UPON.iter().filter(|(_, class)| matches!(class, Acts(_)));
        let said: Vec<_> =
            nginx.filter_map(|(name, _)| name.strip_prefix("nginx.ingress.kubernetes.io/")).collect();
        assert_eq!(said, warren_proto::INGRESS_ANNOTATIONS);
    }

    #[test]
    fn what_is_acted_upon_is_asked_by_name() {
        assert!(is_acted_upon("nginx.ingress.kubernetes.io/rewrite-target"));
        assert!(!is_acted_upon("nginx.ingress.kubernetes.io/canary"));
    }
}
