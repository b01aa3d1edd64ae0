//! Images that nodes have: a pod starts sooner where its images are.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PodSpec};

use crate::indexes::Indexes;

/// What the largest images count, in millionths of load.
const MOST: i64 = 50_000;
/// Between these sizes of all images together, bytes count.
const SMALL: i64 = 23 << 20;
const LARGE: i64 = 1_000 << 20;

/// The images that a node has, by the names that pods may call them, each once.
pub(crate) fn of(node: &Node) -> impl Iterator<Item = (Arc<str>, i64)> {
    let images = node.status.as_ref().and_then(|status| status.images.as_ref());
    let images = images.into_iter().flatten();
    images.flat_map(|image| {
        let bytes = image.size_bytes.unwrap_or(0).max(0);
        image.names.iter().flatten().map(move |name| (whole_name(name).into(), bytes))
    })
}

/// An image's name as all call it: without the registry that is meant anyway, with the tag that is meant anyway.
fn whole_name(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

/// The images of a pod that some node has.
pub(super) fn known(indexes: &Indexes, spec: &PodSpec) -> Vec<Arc<str>> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let names = containers.filter_map(|container| container.image.as_deref()).map(whole_name);
    let known = names.filter_map(|name| indexes.images.get_key_value(&*name));
    known.map(|(name, _)| Arc::clone(name)).collect()
}

/// How much it counts that a node has these images. One that few nodes have counts less: they would be sought by all.
pub(super) fn bonus(indexes: &Indexes, known: &[Arc<str>], node: &str, nodes: usize) -> i64 {
    let part = |name: &Arc<str>| {
        let places = indexes.images.get(name)?;
        let bytes = places.get(node)?;
        let share = i64::try_from(places.len()).ok()?;
        Some(bytes.saturating_mul(share) / i64::try_from(nodes).ok()?.max(1))
    };
    let bytes = known.iter().filter_map(part).fold(0, i64::saturating_add);
    let above = bytes.clamp(SMALL, LARGE).saturating_sub(SMALL);
    above.saturating_mul(MOST) / (LARGE - SMALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_has_one_name() {
        for (name, whole) in [
            ("nginx", "nginx:latest"),
            ("docker.io/library/nginx", "nginx:latest"),
            ("docker.io/me/app:1", "me/app:1"),
            ("registry.example:5000/app", "registry.example:5000/app:latest"),
            ("app@sha256:00", "app@sha256:00"),
        ] {
            assert_eq!(whole_name(name), whole);
        }
    }
}
