//! The two kinds of `metrics.k8s.io`, for which there are no types to take a schema from.

use std::borrow::Cow;

use k8s_openapi::{
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
    schemars::{JsonSchema, Schema, SchemaGenerator},
};
use serde_json::{Value, json};

/// What a node uses.
pub(super) struct NodeMetrics;

impl JsonSchema for NodeMetrics {
    fn schema_name() -> Cow<'static, str> {
        "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = measured(generator, "Resource usage of a node, averaged over a window of time.");
        let usage = usage(generator, "What the node uses of each resource.");
        schema["properties"]["usage"] = usage;
        finished(schema)
    }
}

/// What a pod uses.
pub(super) struct PodMetrics;

impl JsonSchema for PodMetrics {
    fn schema_name() -> Cow<'static, str> {
        "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = measured(generator, "Resource usage of a pod, averaged over a window of time.");
        let usage = usage(generator, "What the container uses of each resource.");
        schema["properties"]["containers"] = json!({
            "description": "The usage of each container.",
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"description": "The container's name.", "type": "string"},
                    "usage": usage,
                },
            },
        });
        finished(schema)
    }
}

/// What both kinds have.
fn measured(generator: &mut SchemaGenerator, description: &str) -> Value {
    let metadata = generator.subschema_for::<ObjectMeta>();
    let time = generator.subschema_for::<Time>();
    json!({
        "description": description,
        "type": "object",
        "properties": {
            "apiVersion": {"description": "The version of this representation.", "type": "string"},
            "kind": {"description": "The kind of this representation.", "type": "string"},
            "metadata": metadata,
            "timestamp": time,
            "window": {
                "description": "How long was measured, up to the timestamp: a duration, like 30s.",
                "type": "string",
            },
        },
    })
}

fn usage(generator: &mut SchemaGenerator, description: &str) -> Value {
    let quantity = generator.subschema_for::<Quantity>();
    json!({"description": description, "type": "object", "additionalProperties": quantity})
}

fn finished(schema: Value) -> Schema {
    Schema::try_from(schema).expect("it was made of an object")
}
