//! Tokens of service accounts: signed, shown, refused.

use std::sync::Arc;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};
use warren_state::{Key, Object, Snapshot};

use super::*;

const API: &str = "https://kubernetes.default.svc.cluster.local";

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn ring(at: Timestamp) -> KeyRing {
    let make = |purpose| SigningKey::generate(purpose, at).unwrap();
    KeyRing::from_keys(vec![make(Purpose::Bound), make(Purpose::Secret)])
}

fn tokens() -> Arc<Tokens> {
    Tokens::new("cluster.local", ring(now()))
}

fn object(resource: &str, namespace: &str, name: &str, uid: &str, mut value: Value) -> Object {
    value["metadata"]["name"] = json!(name);
    value["metadata"]["uid"] = json!(uid);
    Object::new(Key::new(resource, namespace, name), 1, value)
}

fn objects() -> Vec<Object> {
    let pod = json!({"spec": {"serviceAccountName": "robot", "nodeName": "n1"}});
    vec![
        object("serviceaccounts", "shop", "robot", "sa-1", json!({})),
        object("serviceaccounts", "shop", "other", "sa-2", json!({})),
        object("pods", "shop", "web", "pod-1", pod),
        object("nodes", "", "n1", "node-1", json!({})),
        object("secrets", "shop", "s", "secret-1", json!({})),
    ]
}

fn state() -> Snapshot {
    Snapshot::from_objects(1, objects())
}

/// The state, but one object is another (or, without one, missing).
fn changed(resource: &str, name: &str, other: Option<Object>) -> Snapshot {
    let is_it = |object: &Object| &*object.key.resource == resource && &*object.key.name == name;
    let kept = objects().into_iter().filter(|object| !is_it(object));
    Snapshot::from_objects(2, kept.chain(other).collect::<Vec<_>>())
}

fn reference<'a>(kind: &'a str, name: &'a str) -> Option<Reference<'a>> {
    Some(Reference { api_version: "v1", kind, name, uid: "" })
}

fn bound(kind: &str, name: &str) -> Binding {
    bind(&state(), "shop", "robot", reference(kind, name)).unwrap()
}

fn parts(token: &str) -> (Value, Value) {
    let mut parts = token
        .split('.')
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap_or_default()));
    (parts.next().unwrap().unwrap(), parts.next().unwrap().unwrap())
}

#[test]
fn a_token_says_what_kubernetes_says() {
    let tokens = tokens();
    let issued = tokens.issue(bound("Pod", "web"), &[], 3_600, now()).unwrap();
    assert_eq!(issued.expires, Some(after(3_600)));
    let (header, claims) = parts(&issued.token);
    assert_eq!(header["alg"], "ES256");
    assert_eq!(
        header["kid"],
        *tokens.ring().keys()[..].iter().find(|key| key.purpose == Purpose::Bound).unwrap().id
    );
    let seconds = now().as_second();
    assert_eq!(
        claims,
        json!({
            "aud": [API], "exp": seconds + 3_600, "iat": seconds, "nbf": seconds, "iss": API, "jti": issued.id,
            "sub": "system:serviceaccount:shop:robot",
            "kubernetes.io": {
                "namespace": "shop",
                "serviceaccount": {"name": "robot", "uid": "sa-1"},
                "pod": {"name": "web", "uid": "pod-1"},
                "node": {"name": "n1", "uid": "node-1"},
            },
        })
    );
    let user = tokens.authenticate(&state(), &issued.token, now()).unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:shop:robot", "sa-1"));
    assert_eq!(
        user.groups,
        ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"]
    );
    let extra = |key: &str| user.extra[&format!("authentication.kubernetes.io/{key}")][0].clone();
    assert_eq!([extra("pod-name"), extra("pod-uid")], ["web", "pod-1"]);
    assert_eq!([extra("node-name"), extra("node-uid")], ["n1", "node-1"]);
    assert_eq!(extra("credential-id"), format!("JTI={}", issued.id));
}

#[test]
fn a_token_ends_with_what_it_is_of_and_bound_to() {
    let tokens = tokens();
    let gone = |resource: &str, name: &str, other: Option<Object>, token: &str| {
        tokens.authenticate(&changed(resource, name, other), token, now())
    };
    for (kind, name, resource, namespace) in
        [("Pod", "web", "pods", "shop"), ("Secret", "s", "secrets", "shop"), ("Node", "n1", "nodes", "")]
    {
        let token = tokens.issue(bound(kind, name), &[], 600, now()).unwrap().token;
        assert!(tokens.authenticate(&state(), &token, now()).is_ok(), "{kind}");
        let refused = gone(resource, name, None, &token);
        assert!(matches!(refused, Err(Refusal::Gone(..))), "{kind}: {refused:?}");
        let pod = json!({"spec": {"serviceAccountName": "robot", "nodeName": "n1"}});
        let again = object(resource, namespace, name, "again", pod);
        assert!(
            matches!(gone(resource, name, Some(again), &token), Err(Refusal::Gone(..))),
            "{kind} made anew"
        );
        assert!(gone("serviceaccounts", "robot", None, &token).is_err(), "{kind} without its account");
        let again = object("serviceaccounts", "shop", "robot", "sa-9", json!({}));
        assert!(gone("serviceaccounts", "robot", Some(again), &token).is_err(), "{kind} of another account");
    }
    // A pod that is on its way out may still say goodbye, for a minute.
    let token = tokens.issue(bound("Pod", "web"), &[], 600, now()).unwrap().token;
    let dying = json!({
        "metadata": {"deletionTimestamp": now().to_string()},
        "spec": {"serviceAccountName": "robot", "nodeName": "n1"},
    });
    let state = changed("pods", "web", Some(object("pods", "shop", "web", "pod-1", dying)));
    assert!(tokens.authenticate(&state, &token, after(60)).is_ok());
    assert!(tokens.authenticate(&state, &token, after(61)).is_err());
    // Its node may be gone already.
    let token = tokens.issue(bound("Pod", "web"), &[], 600, now()).unwrap().token;
    assert!(gone("nodes", "n1", None, &token).is_ok());
}

#[test]
fn time_and_audience_are_judged_each_time() {
    let tokens = tokens();
    let others = ["vault".to_owned(), "db".to_owned()];
    let token = tokens.issue(bound("Pod", "web"), &others, 600, now()).unwrap().token;
    let refused = tokens.authenticate(&state(), &token, now()).unwrap_err().to_string();
    assert_eq!(
        refused,
        format!("token audiences [\"vault\", \"db\"] is invalid for the target audiences [\"{API}\"]")
    );
    let asked = ["x".to_owned(), "db".to_owned()];
    let (_, both) = tokens.review(&state(), &token, &asked, after(599)).unwrap();
    assert_eq!(both, ["db"]);
    assert_eq!(tokens.review(&state(), &token, &asked, after(600)).unwrap_err(), Refusal::Expired);
    assert_eq!(tokens.review(&state(), &token, &asked, after(-5)).unwrap_err(), Refusal::Early);
    let long = tokens.issue(bound("Pod", "web"), &[], i64::MAX, now()).unwrap();
    assert_eq!(long.expires.unwrap().duration_since(now()), LONGEST);
}

/// What was signed by a key that only calls itself ours, or by none, or with another algorithm.
#[test]
fn what_others_made_is_not_believed() {
    let tokens = tokens();
    let good = tokens.issue(bound("Pod", "web"), &[], 600, now()).unwrap().token;
    let (_, claims) = parts(&good);
    let ring = tokens.ring();
    let key = ring.signer(Purpose::Bound, now()).unwrap();
    let foreign = SigningKey::generate(Purpose::Bound, now()).unwrap();
    let header = |algorithm| Header { kid: Some(key.id.clone()), ..Header::new(algorithm) };
    let foreign_key = jsonwebtoken::encode(&header(Algorithm::ES256), &claims, &foreign.signs).unwrap();
    // The public key is known to everybody: as the secret of a symmetric algorithm it must be worth nothing.
    let public = [&[4], &key.point.0[..], &key.point.1[..]].concat();
    let symmetric =
        jsonwebtoken::encode(&header(Algorithm::HS256), &claims, &EncodingKey::from_secret(&public)).unwrap();
    let body = good.split('.').nth(1).unwrap();
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let none = format!("{}.{body}.", encode(json!({"alg": "none", "kid": key.id})));
    let nameless = format!("{}.{body}.{}", encode(json!({"alg": "ES256"})), good.split('.').nth(2).unwrap());
    let other_cluster = Tokens::new("cluster.local", self::ring(now()))
        .issue(bound("Pod", "web"), &[], 600, now())
        .unwrap()
        .token;
    let mut other_body = claims.clone();
    other_body["sub"] = json!("system:serviceaccount:kube-system:admin");
    let exchanged = format!(
        "{}.{}.{}",
        good.split('.').next().unwrap(),
        encode(other_body),
        good.split('.').nth(2).unwrap()
    );
    for (token, why, expected) in [
        (foreign_key, "another key under our name", Refusal::Malformed),
        (symmetric, "another algorithm", Refusal::Foreign),
        (none, "no algorithm", Refusal::Malformed),
        (nameless, "no key named", Refusal::Foreign),
        (other_cluster, "another cluster", Refusal::Foreign),
        (exchanged, "another body", Refusal::Malformed),
        (String::new(), "nothing", Refusal::Malformed),
        ("x.y.z".into(), "garbage", Refusal::Malformed),
        ("a".repeat(100_000), "too much", Refusal::TooLong(8 << 10)),
    ] {
        assert_eq!(tokens.authenticate(&state(), &token, now()).unwrap_err(), expected, "{why}");
    }
    // The right keys, as another cluster has them after its backup was restored under another domain.
    let moved = Tokens::new("other.local", KeyRing::from_keys(vec![copy(key)]));
    assert!(matches!(moved.authenticate(&state(), &good, now()), Err(Refusal::Issuer(_))));
    assert!(tokens.authenticate(&state(), &good, now()).is_ok());
}

/// A key as it comes out of the store.
fn copy(key: &SigningKey) -> SigningKey {
    let object = Object::new(key.key(), 1, key.to_value());
    let mut ring = KeyRing::of(&Snapshot::from_objects(1, [object])).unwrap();
    assert_eq!(ring.keys().len(), 1);
    std::mem::take(&mut ring).into_keys().pop().unwrap()
}

#[test]
fn what_signed_claims_contradict_is_not_believed() {
    let tokens = tokens();
    let (_, good) = parts(&tokens.issue(bound("Pod", "web"), &[], 600, now()).unwrap().token);
    let ring = tokens.ring();
    let sign = |purpose, edit: &dyn Fn(&mut Value)| {
        let key = ring.signer(purpose, now()).unwrap();
        let mut claims = good.clone();
        edit(&mut claims);
        let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::ES256) };
        let token = jsonwebtoken::encode(&header, &claims, &key.signs).unwrap();
        tokens.authenticate(&state(), &token, now())
    };
    assert!(sign(Purpose::Bound, &|_| {}).is_ok());
    let without_end = sign(Purpose::Bound, &|claims| drop(claims.as_object_mut().unwrap().remove("exp")));
    assert!(matches!(without_end, Err(Refusal::Inconsistent(_))));
    let other = sign(Purpose::Bound, &|claims| claims["sub"] = json!("system:serviceaccount:shop:other"));
    assert!(matches!(other, Err(Refusal::Inconsistent(_))));
    assert!(matches!(sign(Purpose::Secret, &|_| {}), Err(Refusal::Inconsistent(_))), "it names no secret");
    assert_eq!(sign(Purpose::Bound, &|claims| claims["exp"] = json!("soon")), Err(Refusal::Malformed));
    let elsewhere = sign(Purpose::Bound, &|claims| claims["kubernetes.io"]["node"]["name"] = json!("n2"));
    assert!(matches!(elsewhere, Err(Refusal::Gone("node", _))));
}

#[test]
fn a_secrets_token_is_good_while_it_lies_there() {
    let tokens = tokens();
    let token = tokens.issue_for_secret(bound("Secret", "s"), now()).unwrap();
    assert_eq!(token.expires, None);
    let holding = |held: &str| {
        let value = json!({"data": {"token": STANDARD.encode(held)}});
        changed("secrets", "s", Some(object("secrets", "shop", "s", "secret-1", value)))
    };
    let much_later = now() + SignedDuration::from_hours(10 * 366 * 24);
    assert!(tokens.authenticate(&holding(&token.token), &token.token, much_later).is_ok());
    assert!(tokens.authenticate(&holding("another"), &token.token, now()).is_err());
    assert!(tokens.authenticate(&state(), &token.token, now()).is_err());
}

#[test]
fn binding_is_refused_as_kubernetes_does() {
    let refused =
        |account: &str, reference| bind(&state(), "shop", account, reference).unwrap_err().to_string();
    assert_eq!(refused("nobody", None), "serviceaccounts \"nobody\" not found");
    assert_eq!(refused("robot", reference("Pod", "gone")), "pods \"gone\" not found");
    assert_eq!(
        refused("other", reference("Pod", "web")),
        "cannot bind token for serviceaccount \"other\" to pod running with different serviceaccount name."
    );
    let deployment = Some(Reference { api_version: "apps/v1", kind: "Deployment", name: "d", uid: "" });
    assert_eq!(refused("robot", deployment), "cannot bind token to object of type apps/v1, Kind=Deployment");
    let old = Some(Reference { uid: "pod-0", ..reference("Pod", "web").unwrap() });
    assert_eq!(
        refused("robot", old),
        "the UID in the bound object reference (pod-0) does not match the UID in record. The object might have been \
         deleted and then recreated"
    );
}

#[test]
fn a_node_asks_for_its_own_pods_alone() {
    let state = state();
    let binding = node_asks(&state, "n1", "shop", "web", "pod-1").unwrap();
    assert_eq!(binding.private.serviceaccount, Named { name: "robot".into(), uid: "sa-1".into() });
    for (node, namespace, pod, uid) in [
        ("n2", "shop", "web", "pod-1"),
        ("", "shop", "web", "pod-1"),
        ("n1", "shop", "web", "pod-0"),
        ("n1", "shop", "web", ""),
        ("n1", "default", "web", "pod-1"),
        ("n1", "shop", "other", "pod-1"),
    ] {
        assert_eq!(node_asks(&state, node, namespace, pod, uid), None, "{node} {namespace} {pod} {uid}");
    }
}

/// Keys come and go in time, and at no time is a token refused that has not expired.
#[test]
fn keys_rotate_and_their_tokens_stay_good() {
    let days = SignedDuration::from_hours(5 * 24);
    let mut at = now();
    let tokens = tokens();
    let mut issued: Vec<(Timestamp, String)> = Vec::new();
    let (mut most, mut signers) = (0, std::collections::BTreeSet::new());
    for number in 0..240 {
        let ring = tokens.ring();
        let outlived: Vec<String> = ring.outlived(at).iter().map(|key| key.id.clone()).collect();
        let missing = ring.missing(at);
        if !outlived.is_empty() || !missing.is_empty() {
            let made = missing.into_iter().map(|purpose| SigningKey::generate(purpose, at).unwrap());
            let kept = ring.keys().iter().filter(|key| !outlived.contains(&key.id)).map(copy);
            tokens.replace(KeyRing::from_keys(kept.chain(made).collect()));
        }
        let known_before: Vec<String> = ring.keys().iter().map(|key| key.id.clone()).collect();
        if number % 2 == 0 {
            let token = tokens.issue(bound("Pod", "web"), &[], i64::MAX, at).unwrap();
            let signer = parts(&token.token).0["kid"].as_str().unwrap().to_owned();
            assert!(known_before.contains(&signer), "others have not heard of the key that signs");
            signers.insert(signer);
            issued.push((token.expires.unwrap(), token.token));
        }
        issued.retain(|(expires, _)| *expires > at);
        for (_, token) in &issued {
            tokens.authenticate(&state(), token, at).unwrap();
        }
        most = most.max(tokens.ring().keys().len());
        at += days;
    }
    assert_eq!(signers.len(), 14, "1,200 days of 90");
    assert!(most <= 8, "{most} keys");
}

#[test]
fn a_damaged_key_is_named() {
    let key = SigningKey::generate(Purpose::Bound, now()).unwrap();
    for edit in ["AAAA", "no base64"] {
        let mut value = key.to_value();
        value["spec"]["key"] = json!(edit);
        let error = KeyRing::of(&Snapshot::from_objects(1, [Object::new(key.key(), 1, value)])).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("the stored signing key {} is damaged", key.id)),
            "{error}"
        );
    }
    assert!(!format!("{key:?}").contains(key.to_value()["spec"]["key"].as_str().unwrap()));
}

#[test]
fn others_find_the_keys() {
    let tokens = tokens();
    let configuration = tokens.configuration();
    assert_eq!(configuration["issuer"], API);
    assert_eq!(configuration["jwks_uri"], format!("{API}/openid/v1/jwks"));
    let keys = tokens.key_set();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    let token = tokens.issue(bound("Pod", "web"), &["x".to_owned()], 600, now()).unwrap().token;
    let id = parts(&token).0["kid"].clone();
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == id).unwrap().clone();
    let key: jsonwebtoken::jwk::Jwk = serde_json::from_value(key).unwrap();
    let mut validation = jsonwebtoken::Validation::new(Algorithm::ES256);
    validation.set_audience(&["x"]);
    validation.set_issuer(&[API]);
    validation.validate_exp = false;
    let verifies = jsonwebtoken::DecodingKey::from_jwk(&key).unwrap();
    jsonwebtoken::decode::<Value>(&token, &verifies, &validation).unwrap();
}

proptest! {
    /// Whatever is sent, it is answered, and only what was signed is believed.
    #[test]
    fn any_change_of_a_token_is_refused(place in 0_usize..600, byte in 33_u8..127) {
        let tokens = tokens();
        let token = tokens.issue(bound("Pod", "web"), &[], 600, now()).unwrap().token;
        let mut bytes = token.clone().into_bytes();
        let place = place % bytes.len();
        bytes[place] = byte;
        let changed = String::from_utf8(bytes).unwrap();
        let same = changed == token;
        prop_assert_eq!(tokens.authenticate(&state(), &changed, now()).is_ok(), same);
    }

    #[test]
    fn garbage_is_refused(text in ".{0,200}", dots in "[a-zA-Z0-9_-]{0,60}\\.[a-zA-Z0-9_-]{0,60}\\.[a-zA-Z0-9_-]{0,60}") {
        let tokens = tokens();
        prop_assert!(tokens.authenticate(&state(), &text, now()).is_err());
        prop_assert!(tokens.authenticate(&state(), &dots, now()).is_err());
    }
}
