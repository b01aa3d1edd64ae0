//! Is there what a pod claims? Without its volumes no pod gets a node: it would run without its data.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use warren_state::Key;

use crate::view::{PodView, Typed, View};
use warren_vocabulary::resources::PERSISTENTVOLUMECLAIMS;

/// Why the pod's claims keep it from every node, in Kubernetes' words.
pub(super) fn obstacle(view: &View<'_>, pod: &PodView<'_>) -> Option<String> {
    let volumes = pod.spec.as_ref()?.volumes.as_deref().unwrap_or_default();
    let mut unbound = false;
    for claimed in volumes.iter().filter_map(|volume| volume.persistent_volume_claim.as_ref()) {
        let key = Key::new(PERSISTENTVOLUMECLAIMS, pod.namespace(), &claimed.claim_name);
        let claim = view.read(&key).and_then(|object| Typed::<PersistentVolumeClaim>::of(object).ok());
        let Some(claim) = claim else {
            return Some(format!("persistentvolumeclaim {:?} not found", claimed.claim_name));
        };
        if claim.deleting() {
            return Some(format!("persistentvolumeclaim {:?} is being deleted", claimed.claim_name));
        }
        unbound |= !is_bound(&claim);
    }
    unbound.then(|| "pod has unbound immediate PersistentVolumeClaims".to_owned())
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    volume.is_some_and(|name| !name.is_empty()) && phase == Some("Bound")
}
