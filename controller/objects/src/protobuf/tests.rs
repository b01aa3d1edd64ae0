//! Rules of the wire, on bodies made by hand. What Go's serializer makes is in `tests/objects/protobuf.rs`.

use serde_json::json;

use super::*;
use crate::schema::root;

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, data: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(data.len() as u64), data.to_vec()].concat()
}

/// A body around the message of a kind.
fn body(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), bytes(1, &meta), bytes(2, object)].concat()
}

fn decode(api_version: &str, kind: &str, object: &[u8]) -> Result<Value, DecodeError> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let body = body(api_version, kind, object);
    let envelope = open(&body)?;
    assert_eq!((envelope.api_version, envelope.kind), (api_version, kind));
    envelope.decode(root(group, version, kind).unwrap()).map(Value::Object)
}

fn refused(api_version: &str, kind: &str, object: &[u8]) -> String {
    decode(api_version, kind, object).unwrap_err().to_string()
}

/// A pod whose spec has these fields.
fn pod(spec: &[u8]) -> Vec<u8> {
    bytes(2, spec)
}

#[test]
fn the_envelope_is_checked() {
    assert_eq!(open(b"").unwrap_err().fault, Fault::NoMagic);
    assert_eq!(open(b"{}").unwrap_err().fault, Fault::NoMagic);
    assert_eq!(open(MAGIC).unwrap(), Envelope::default());
    let gzip = [MAGIC.to_vec(), bytes(3, b"gzip")].concat();
    assert_eq!(open(&gzip).unwrap_err().fault, Fault::Encoding("gzip".into()));
    let json = [MAGIC.to_vec(), bytes(3, b""), bytes(4, b"application/json"), bytes(99, b"later")].concat();
    assert_eq!(open(&json).unwrap(), Envelope::default());
}

#[test]
fn errors_name_the_field() {
    let env = bytes(7, &[bytes(1, b"A"), number(2, 1)].concat());
    let containers = [bytes(2, &bytes(1, b"a")), bytes(2, &[bytes(1, b"b"), env].concat())].concat();
    let error = decode("v1", "Pod", &pod(&containers)).unwrap_err();
    assert_eq!(error.field, "spec.containers[1].env[0].value");
    assert_eq!(error.to_string(), "spec.containers[1].env[0].value: has wire type 0, expected 2");
    let labels = bytes(1, &bytes(11, &[bytes(1, b"app"), bytes(2, b"\xff")].concat()));
    assert_eq!(refused("v1", "Pod", &labels), "metadata.labels.app: is not UTF-8");
    let time = bytes(1, &bytes(8, &number(1, 1 << 40)));
    assert!(refused("v1", "Pod", &time).starts_with("metadata.creationTimestamp: is out of range"));
    let data = bytes(2, &bytes(1, b"{\"a\":"));
    assert!(refused("apps/v1", "ControllerRevision", &data).starts_with("data: is not JSON: EOF"));
}

#[test]
fn what_is_malformed_is_refused() {
    for (what, fault) in [
        (vec![0x12, 0x05, 1], Fault::Truncated),
        (vec![0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Fault::Truncated),
        (vec![0x12], Fault::Truncated),
        (vec![0x80], Fault::Truncated),
        (vec![0xff; 10], Fault::Overlong),
        (vec![0xff; 11], Fault::Overlong),
        (vec![0x00, 0x00], Fault::FieldNumber(0)),
        (vec![0x13, 0x14], Fault::WireType(3)),
        (vec![0x9b, 0x06, 0x9c, 0x06], Fault::WireType(3)),
        (vec![0x16], Fault::WireType(6)),
        (vec![0x10, 0x01], Fault::Mismatch { expected: 2, found: 0 }),
    ] {
        assert_eq!(decode("v1", "Pod", &what).unwrap_err().fault, fault, "{what:?}");
    }
    let far = varint(1 << 40);
    assert_eq!(decode("v1", "Pod", &far).unwrap_err().fault, Fault::FieldNumber(1 << 37));
}

#[test]
fn unknown_fields_are_skipped() {
    let object = [
        number(900, 7),
        bytes(901, b"x"),
        [varint(902 << 3 | 1), vec![0; 8]].concat(),
        [varint(903 << 3 | 5), vec![0; 4]].concat(),
        bytes(1, &bytes(1, b"p")),
    ];
    assert_eq!(decode("v1", "Pod", &object.concat()).unwrap(), json!({"metadata": {"name": "p"}}));
}

#[test]
fn the_last_word_counts_and_messages_come_in_parts() {
    let parts = [bytes(1, &bytes(1, b"a")), bytes(1, &bytes(3, b"n")), bytes(1, &bytes(1, b"b"))].concat();
    assert_eq!(decode("v1", "Pod", &parts).unwrap(), json!({"metadata": {"name": "b", "namespace": "n"}}));
    let taken_back = [bytes(1, &bytes(1, b"a")), bytes(1, &bytes(1, b""))].concat();
    assert_eq!(decode("v1", "Pod", &taken_back).unwrap(), json!({"metadata": {}}));
}

#[test]
fn numbers_may_be_packed() {
    let groups = |field: Vec<u8>| pod(&bytes(14, &field));
    let packed = groups(bytes(4, &[varint(0), varint(5), varint(u64::MAX)].concat()));
    let single = groups([number(4, 0), number(4, 5), number(4, u64::MAX)].concat());
    let expected = json!({"spec": {"securityContext": {"supplementalGroups": [0, 5, -1]}}});
    assert_eq!(decode("v1", "Pod", &packed).unwrap(), expected);
    assert_eq!(decode("v1", "Pod", &single).unwrap(), expected);
}

#[test]
fn entries_of_maps_may_leave_out_zeros() {
    let data = [bytes(2, b""), bytes(2, &bytes(1, b"k")), bytes(2, &bytes(2, b"v"))].concat();
    assert_eq!(decode("v1", "ConfigMap", &data).unwrap(), json!({"data": {"": "v", "k": ""}}));
    let limits = bytes(2, &bytes(1, &bytes(1, b"cpu")));
    let quota = decode("v1", "ResourceQuota", &limits).unwrap();
    assert_eq!(quota, json!({"spec": {"hard": {"cpu": "0"}}}));
}

#[test]
fn times_and_durations_in_go_spelling() {
    let window = |nanos: i64| {
        let value =
            decode("metrics.k8s.io/v1beta1", "NodeMetrics", &bytes(3, &number(1, nanos as u64))).unwrap();
        value["window"].as_str().unwrap().to_owned()
    };
    for (nanos, text) in [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (-1_500_000_000, "-1.5s"),
        (60_000_000_000, "1m0s"),
        (3_600_000_000_000, "1h0m0s"),
        (i64::MAX, "2562047h47m16.854775807s"),
        (i64::MIN, "-2562047h47m16.854775808s"),
    ] {
        assert_eq!(window(nanos), text);
    }
    let renewed = |nanos: i32| {
        let time = [number(1, 0), number(2, i64::from(nanos) as u64)].concat();
        let lease = decode("coordination.k8s.io/v1", "Lease", &bytes(2, &bytes(4, &time))).unwrap();
        lease["spec"]["renewTime"].as_str().unwrap().to_owned()
    };
    assert_eq!(renewed(1_999), "1970-01-01T00:00:00.000001Z");
    assert_eq!(renewed(-1_000), "1969-12-31T23:59:59.999999Z");
    assert_eq!(renewed(i32::MAX), "1970-01-01T00:00:02.147483Z");
}

#[test]
fn a_number_or_a_text_and_nothing_else() {
    let port = |which: u64| bytes(1, &bytes(4, &[number(1, which), number(2, 9), bytes(3, b"x")].concat()));
    let service = |which| decode("v1", "Service", &bytes(2, &port(which)));
    assert_eq!(service(0).unwrap()["spec"]["ports"][0]["targetPort"], 9);
    assert_eq!(service(1).unwrap()["spec"]["ports"][0]["targetPort"], "x");
    assert!(matches!(service(2).unwrap_err().fault, Fault::Range(_)));
}

#[test]
fn depth_is_bounded() {
    // A schema in a schema in a schema: `properties`, each an entry whose value is the next.
    let mut schema = Vec::new();
    for _ in 0..20_000 {
        let entry = [bytes(1, b"a"), bytes(2, &schema)].concat();
        schema = bytes(29, &entry);
        if schema.len() > 300_000 {
            break;
        }
    }
    let version = bytes(7, &[bytes(1, b"v1"), bytes(4, &bytes(1, &schema))].concat());
    let deep = bytes(2, &version);
    let fault = decode("apiextensions.k8s.io/v1", "CustomResourceDefinition", &deep).unwrap_err().fault;
    assert_eq!(fault, Fault::TooDeep);
    let raw = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let revision =
        |levels| decode("apps/v1", "ControllerRevision", &bytes(2, &bytes(1, raw(levels).as_bytes())));
    assert!(revision(LEVELS).is_ok());
    assert_eq!(revision(LEVELS + 1).unwrap_err().fault, Fault::TooDeep);
    assert!(matches!(revision(500).unwrap_err().fault, Fault::NotJson(_)));
}

#[test]
fn the_number_of_values_is_bounded() {
    let many = bytes(2, b"").repeat(VALUES + 1);
    assert_eq!(decode("v1", "Pod", &pod(&many)).unwrap_err().fault, Fault::TooLarge);
    let groups = pod(&bytes(14, &bytes(4, &vec![0; VALUES])));
    assert_eq!(decode("v1", "Pod", &groups).unwrap_err().fault, Fault::TooLarge);
    let text = format!("[{}0]", "0,".repeat(VALUES));
    let raw = bytes(2, &bytes(1, text.as_bytes()));
    assert_eq!(decode("apps/v1", "ControllerRevision", &raw).unwrap_err().fault, Fault::TooLarge);
}
