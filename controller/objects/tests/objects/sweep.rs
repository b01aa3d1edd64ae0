//! Nothing is silent: every field of every kind that can be written acts, is warned of, is refused, or is nothing that
//! anybody acts upon; and the documents name what is only kept.

use crate::samples::served;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use warren_objects::{
    classes::{self, Class, Field, Step},
    ingress_annotations,
    kinds::{KINDS, Kind},
    schema,
};

/// Bodies that are no kinds, but the questions of subresources.
const BODIES: [(&str, &str, &str); 3] =
    [("autoscaling", "v1", "Scale"), ("policy", "v1", "Eviction"), ("meta.k8s.io", "v1", "DeleteOptions")];

fn writable() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.verbs.contains(&"create"))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Fields of all kinds that are not kept as a whole, each type's once.
fn acting_kinds() -> Vec<(&'static Kind, Vec<Field>)> {
    writable().filter(|kind| kind.idle.is_empty()).map(|kind| (kind, classes::fields(kind))).collect()
}

#[test]
fn every_field_is_classified() {
    let mut count = 0;
    for (kind, fields) in acting_kinds() {
        assert!(fields.len() > 2, "{} is not in the table of API types", kind.kind);
        count += fields.len();
        let silent: Vec<_> = fields.iter().filter(|field| field.classes.is_empty()).collect();
        let names: BTreeSet<_> =
            silent.iter().map(|field| format!("{} ({})", field, field.of.name)).collect();
        assert!(names.is_empty(), "{}: what becomes of these fields? {names:#?}", kind.kind);
    }
    for (group, version, kind) in BODIES {
        for field in classes::fields_of(schema::root(group, version, kind).unwrap()) {
            assert!(!field.classes.is_empty(), "{kind}: what becomes of {field}?");
        }
    }
    assert!(count > 2_500, "the walk goes deep: {count}");
}

#[test]
fn a_kind_that_does_not_run_says_so_or_its_fields_do() {
    for kind in writable().filter(|kind| !kind.idle.is_empty()) {
        assert!(kind.idle.contains(&*kind.kind) || kind.group == "storage.k8s.io", "{}", kind.kind);
    }
}

#[test]
fn every_row_is_of_a_field() {
    let known: BTreeSet<(&str, &str)> = schema::messages()
        .iter()
        .flat_map(|message| message.json_fields().into_iter().map(|field| (message.name, field.json)))
        .collect();
    for (of, name) in classes::rows() {
        let first = name.split('.').next().unwrap();
        assert!(known.contains(&(of, first)), "{of} has no field {first}");
    }
}

#[test]
fn a_field_that_follows_another_has_one_that_speaks() {
    for (kind, fields) in acting_kinds() {
        for field in &fields {
            for leader in field.classes.iter().filter_map(|class| match class {
                Class::Follows(leader) => Some(*leader),
                _ => None,
            }) {
                let speaks = fields.iter().any(|other| {
                    let spoken = other.to_string();
                    (spoken == leader || spoken.ends_with(&format!(".{leader}")))
                        && other.classes.iter().any(|class| matches!(class, Class::Warns(..)))
                });
                assert!(speaks, "{} {field} follows {leader}, which says nothing", kind.kind);
            }
        }
    }
}

/// Rust sources below a file or folder of the repository, as one text.
fn source(place: &str, known: &mut BTreeMap<String, String>) -> String {
    fn read(path: &Path, text: &mut String) {
        if path.is_dir() {
            let mut entries: Vec<_> =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            entries.sort();
            entries.iter().filter(|entry| !entry.ends_with("tests")).for_each(|entry| read(entry, text));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    let text = known.entry(place.to_owned()).or_insert_with(|| {
        let mut text = String::new();
        read(&repository().join(place), &mut text);
        text
    });
    text.clone()
}

/// `podAffinity` as Rust spells it: `pod_affinity`.
fn in_rust(name: &str) -> String {
    let mut spelt = String::new();
    let mut before = 'A';
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !before.is_ascii_uppercase() {
            spelt.push('_');
        }
        spelt.push(letter.to_ascii_lowercase());
        before = letter;
    }
    spelt
}

/// A row that says "acts" names where; there the field must at least be mentioned.
#[test]
fn what_acts_is_read_where_its_row_says() {
    let mut sources = BTreeMap::new();
    let mut missing = BTreeSet::new();
    for (_, fields) in acting_kinds() {
        for field in &fields {
            let Some(Step::Field(name)) =
                field.steps.iter().rfind(|step| matches!(step, Step::Field(_))).copied()
            else {
                continue;
            };
            // `metadata`, `spec` and their like only lead to what acts.
            if ["metadata", "spec", "type"].contains(&name) {
                continue;
            }
            for class in &field.classes {
                let Class::Acts(place) = class else { continue };
                let text = source(place, &mut sources);
                assert!(!text.is_empty(), "{place} is nowhere");
                if !text.contains(name) && !text.contains(&in_rust(name)) {
                    missing.insert(format!("{}.{name} in {place}", field.of.name));
                }
            }
        }
    }
    assert!(missing.is_empty(), "said to act, but not read there: {missing:#?}");
}

/// Annotations that charts put on an Ingress; each must do something, be warned of or be refused.
const COMMON: &str = "nginx: affinity affinity-canary-behavior affinity-mode app-root auth-cache-key auth-method auth-realm \
    auth-response-headers auth-secret auth-secret-type auth-signin auth-snippet auth-tls-pass-certificate-to-upstream \
    auth-tls-secret auth-tls-verify-client auth-tls-verify-depth auth-type auth-url backend-protocol canary \
    canary-by-cookie canary-by-header canary-by-header-value canary-weight client-body-buffer-size \
    configuration-snippet connection-proxy-header cors-allow-credentials cors-allow-headers cors-allow-methods \
    cors-allow-origin cors-expose-headers cors-max-age custom-http-errors default-backend denylist-source-range \
    enable-access-log enable-cors enable-modsecurity enable-opentelemetry force-ssl-redirect from-to-www-redirect \
    limit-burst-multiplier limit-connections limit-rate limit-rate-after limit-rpm limit-rps limit-whitelist \
    load-balance mirror-target permanent-redirect permanent-redirect-code preserve-trailing-slash proxy-body-size \
    proxy-buffer-size proxy-buffering proxy-buffers-number proxy-connect-timeout proxy-cookie-domain proxy-cookie-path \
    proxy-http-version proxy-max-temp-file-size proxy-next-upstream proxy-next-upstream-tries proxy-read-timeout \
    proxy-redirect-from proxy-redirect-to proxy-request-buffering proxy-send-timeout proxy-ssl-name proxy-ssl-secret \
    proxy-ssl-verify rewrite-target satisfy server-alias server-snippet service-upstream session-cookie-expires \
    session-cookie-max-age session-cookie-name session-cookie-path session-cookie-samesite session-cookie-secure \
    ssl-ciphers ssl-passthrough ssl-prefer-server-ciphers ssl-redirect temporal-redirect upstream-hash-by \
    upstream-vhost use-regex websocket-services whitelist-source-range x-forwarded-prefix";
/// The same of other controllers.
const OTHERS: [&str; 26] = [
    "acme.cert-manager.io/http01-edit-in-place",
    "alb.ingress.kubernetes.io/auth-type",
    "alb.ingress.kubernetes.io/scheme",
    "alb.ingress.kubernetes.io/target-type",
    "appgw.ingress.kubernetes.io/ssl-redirect",
    "cert-manager.io/cluster-issuer",
    "cert-manager.io/issuer",
    "certmanager.k8s.io/issuer",
    "cloud.google.com/backend-config",
    "haproxy-ingress.github.io/ssl-redirect",
    "haproxy.org/cors-enable",
    "haproxy.org/path-rewrite",
    "ingress.gcp.kubernetes.io/pre-shared-cert",
    "ingress.kubernetes.io/rewrite-target",
    "ingress.kubernetes.io/ssl-redirect",
    "konghq.com/strip-path",
    "kubernetes.io/ingress.allow-http",
    "kubernetes.io/ingress.class",
    "kubernetes.io/ingress.global-static-ip-name",
    "kubernetes.io/tls-acme",
    "networking.gke.io/managed-certificates",
    "nginx.org/rewrites",
    "projectcontour.io/response-timeout",
    "traefik.ingress.kubernetes.io/router.entrypoints",
    "traefik.ingress.kubernetes.io/router.middlewares",
    "traefik.ingress.kubernetes.io/router.tls",
];

#[test]
fn common_annotations_of_an_ingress_are_classified() {
    let nginx = COMMON.split_whitespace().skip(1).map(|name| format!("nginx.ingress.kubernetes.io/{name}"));
    let all: Vec<String> = nginx.chain(OTHERS.map(str::to_owned)).collect();
    let mut acting = 0;
    for name in &all {
        let mut value = serde_json::json!({"spec": {"defaultBackend": {}}});
        value["metadata"]["annotations"][name.as_str()] = "something".into();
        let resource = "ingresses.networking.k8s.io";
        let about = format!("metadata.annotations[{name}]: ");
        let warned = warren_objects::unsupported::warnings(served(resource), &value)
            .iter()
            .any(|text| text.starts_with(&about));
        let errors = warren_objects::validate::create(served(resource), &value);
        let refused = errors.iter().any(|error| error.to_string().starts_with(&about));
        let acts = ingress_annotations::is_acted_upon(name);
        acting += usize::from(acts);
        assert!(acts || warned || refused, "{name} is silent");
    }
    assert!(all.len() > 120 && acting > 10, "{} {acting}", all.len());
}

/// A part of a document, from one heading to the next.
fn section(document: &str, heading: &str) -> String {
    let text = fs::read_to_string(repository().join(document)).unwrap();
    let (_, rest) = text.split_once(heading).unwrap_or_else(|| panic!("{document} has no {heading:?}"));
    rest.split("\n#").next().unwrap().to_owned()
}

fn mentions(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let after = text[at + word.len()..].trim_start_matches("es").trim_start_matches('s');
        let before = text[..at].chars().next_back();
        !before.is_some_and(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
    })
}

#[test]
fn the_documents_name_every_kind_that_is_kept_and_not_run() {
    let readme = section("README.md", "\nNot yet:");
    let limits = section("CHANGELOG.md", "### Known limits");
    for kind in KINDS.iter().filter(|kind| !kind.idle.is_empty()) {
        let name = kind.kind.strip_suffix('y').map_or(kind.kind.to_string(), |stem| format!("{stem}ie"));
        for (document, text) in [("README.md", &readme), ("CHANGELOG.md", &limits)] {
            let said = mentions(text, &kind.kind) || mentions(text, &name);
            assert!(said, "{document} does not say that {} is kept and not run", kind.kind);
        }
    }
}

#[test]
fn the_changelog_names_every_field_that_is_kept_and_not_acted_upon() {
    let limits = section("CHANGELOG.md", "### Known limits");
    let mut missing = BTreeSet::new();
    for (_, fields) in acting_kinds() {
        for field in &fields {
            let kept = field.classes.iter().any(|class| matches!(class, Class::Warns(..)));
            let last = field.steps.iter().rev().find_map(|step| match step {
                Step::Field(name) => Some(*name),
                Step::Each => None,
            });
            if let Some(name) = last.filter(|name| kept && !mentions(&limits, name)) {
                missing.insert(format!("{name} ({})", field.of.name));
            }
        }
    }
    assert!(missing.is_empty(), "not in CHANGELOG.md's known limits: {missing:#?}");
}
