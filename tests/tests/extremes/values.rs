//! What users may write at a place, at the edges of its type.

use serde_json::{Value, json};
use warren_objects::schema::Type;

use crate::places::{Place, Step};

/// `i128::MAX` in thousandths.
const MOST: &str = "170141183460469231731687303715884105727m";

/// The edge values of a place.
pub(crate) fn of(place: &Place) -> Vec<Value> {
    if place.is_below(&["metadata", "annotations"]) && place.path.len() == 2 {
        return annotations();
    }
    match place.holds {
        Type::Bool => vec![json!(true), json!(false)],
        Type::Int32 => whole(&[0, 1, -1, 65_535, i64::from(i32::MAX), i64::from(i32::MIN)]),
        Type::Int64 => whole(&[0, 1, -1, i64::MAX, i64::MIN, i64::from(i32::MAX) + 1]),
        Type::Double => vec![json!(0.0), json!(-1.0), json!(f64::MAX)],
        Type::String => texts(place),
        Type::Bytes => vec![json!(""), json!("AA=="), json!("//79"), json!("QUFB".repeat(10_000))],
        Type::Time | Type::MicroTime => {
            ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "9999-12-30T22:00:00Z"]
                .map(|time| json!(time))
                .to_vec()
        }
        Type::Duration => ["0s", "-1ns", "2562047h47m16.854775807s"].map(|text| json!(text)).to_vec(),
        Type::Quantity => quantities(),
        Type::IntOrString => [
            json!(0),
            json!(-1),
            json!(i32::MAX),
            json!(i32::MIN),
            json!("100%"),
            json!("0%"),
            json!("9223372036854775807%"),
            json!("http"),
            json!(""),
        ]
        .to_vec(),
        Type::Json => vec![json!({}), json!("x"), json!([1, {"a": null}])],
        Type::Object(_) | Type::OneOf(_) => vec![json!({})],
        Type::List(_) | Type::Items(_) => vec![json!([])],
        Type::Map(item) => maps(*item),
    }
}

fn whole(numbers: &[i64]) -> Vec<Value> {
    numbers.iter().map(|number| json!(number)).collect()
}

fn quantities() -> Vec<Value> {
    [
        "0",
        "1",
        "-1",
        "1n",
        "100m",
        "9223372036854775807",
        "9223372036854775808",
        "100Ei",
        "1e35",
        MOST,
        "1e-300",
    ]
    .map(|text| json!(text))
    .to_vec()
}

/// Words that mean something at some place, and those that mean nothing anywhere.
fn texts(place: &Place) -> Vec<Value> {
    let mut texts: Vec<String> = [
        "",
        "a",
        "0",
        "-1",
        "9223372036854775807",
        "99999999999999999999",
        "a.b.c",
        "ü\u{1d11e}",
        "\u{0}",
        "\n",
        "..",
        "../../x",
        "/",
        "/x/../y",
        "$(A)$(B)$$($(",
        "0.0.0.0",
        "255.255.255.255",
        "10.42.1.2",
        "::1",
        "127.0.0.1",
        "*.example.com",
        "None",
        "node-1",
        "limits.cpu",
        "requests.ephemeral-storage",
        "metadata.annotations['x']",
        "metadata.labels",
        "1",
        "1k",
        "100%",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.extend([
        "x".repeat(63),
        "x".repeat(253),
        "é".repeat(120),
        "$(A)".repeat(5_000),
        "/x".repeat(3_000),
    ]);
    // Most places take any text: each gets every third, so that all of them meet each kind of place somewhere.
    let mut number = place.to_string().bytes().fold(0_usize, |sum, byte| sum.wrapping_add(usize::from(byte)));
    texts.retain(|_| {
        number = number.wrapping_add(1);
        number.is_multiple_of(3)
    });
    // Enumerations: what the field's siblings in the API are called, so that branches are reached.
    if let Some(Step::Field(name)) = place.path.iter().rev().find(|step| matches!(step, Step::Field(_))) {
        texts.extend(words(name).iter().map(|word| (*word).to_owned()));
    }
    texts.into_iter().map(Value::String).collect()
}

fn words(field: &str) -> &'static [&'static str] {
    match field {
        "type" => &[
            "ExternalName",
            "NodePort",
            "LoadBalancer",
            "ClusterIP",
            "Recreate",
            "RollingUpdate",
            "DirectoryOrCreate",
            "Socket",
            "Warning",
            "Opaque",
            "kubernetes.io/tls",
        ],
        "operator" => &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Equal"],
        "effect" => &["NoSchedule", "NoExecute", "PreferNoSchedule"],
        "protocol" => &["TCP", "UDP", "SCTP"],
        "restartPolicy" => &["Always", "OnFailure", "Never"],
        "dnsPolicy" => &["Default", "None", "ClusterFirst", "ClusterFirstWithHostNet"],
        "pathType" => &["Exact", "Prefix", "ImplementationSpecific"],
        "addressType" => &["IPv4", "IPv6", "FQDN"],
        "sessionAffinity" => &["ClientIP", "None"],
        "imagePullPolicy" => &["Always", "Never", "IfNotPresent"],
        "phase" => &["Terminating", "Active", "Pending", "Running", "Succeeded", "Failed"],
        "status" => &["True", "False", "Unknown"],
        "medium" => &["Memory"],
        "scheme" => &["HTTP", "HTTPS"],
        _ => &[],
    }
}

/// Annotations that somebody here reads.
const READ: &[&str] = &[
    "deployment.kubernetes.io/revision",
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "controller.kubernetes.io/pod-deletion-cost",
    "kubernetes.io/ingress.class",
    "warren.dev/stop-since",
];

fn annotations() -> Vec<Value> {
    let numbers =
        ["9223372036854775807", "-9223372036854775808", "99999999999999999999", "0", "-1", "", "x", "é,é"];
    let long = "1,".repeat(50_000);
    let mut all: Vec<Value> = READ
        .iter()
        .flat_map(|name| {
            numbers.iter().copied().chain([long.as_str()]).map(move |number| json!({*name: number}))
        })
        .collect();
    all.extend(maps(Type::String));
    all
}

fn maps(item: Type) -> Vec<Value> {
    let value = |text: &str| match item {
        Type::String => json!(text),
        Type::Bytes => json!("AAAA"),
        Type::Quantity => json!("1"),
        _ => json!({}),
    };
    let wide = (0..3_000).map(|index| (format!("k{index}"), value("v"))).collect();
    let mut all =
        vec![json!({}), json!({"": value("")}), json!({"é": value("\u{1d11e}")}), Value::Object(wide)];
    if matches!(item, Type::Quantity) {
        for quantity in quantities() {
            all.push(
                json!({"cpu": quantity.clone(), "memory": quantity.clone(), "ephemeral-storage": quantity}),
            );
        }
    }
    all
}
