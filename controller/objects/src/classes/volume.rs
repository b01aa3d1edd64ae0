//! A pod's volumes.

use serde_json::Value;

use super::{
    COMPILER,
    Class::{Acts, Refused, Warns},
    Row, Rows,
    When::{Given, That},
};
use crate::json::{get, is_empty, text};

/// An emptyDir on disk with a limit.
fn limits_a_disk(source: &Value) -> bool {
    !is_empty(get(source, "sizeLimit")) && text(source, "medium") != "Memory"
}

fn huge_pages(medium: &Value) -> bool {
    medium.as_str().is_some_and(|medium| medium.starts_with("HugePages"))
}

pub(super) const TYPES: &[Rows] = &[
    (
        "core.v1",
        "Volume",
        &[
            Row("name emptyDir hostPath configMap secret downwardAPI projected", Acts(COMPILER)),
            Row("emptyDir", Warns(That(limits_a_disk), "sizeLimit is enforced for medium Memory only")),
            Row(
                "persistentVolumeClaim",
                Warns(
                    Given,
                    "this version of Warren binds no claim: the pod stays Pending until somebody does",
                ),
            ),
            Row(
                "ephemeral csi",
                Refused(Given, "use an emptyDir, or a hostPath with a nodeSelector for what must stay"),
            ),
            Row("image gitRepo", Refused(Given, "fill an emptyDir by an init container")),
            Row(
                "gcePersistentDisk awsElasticBlockStore nfs iscsi glusterfs rbd flexVolume cinder cephfs flocker fc \
                 azureFile azureDisk vsphereVolume quobyte photonPersistentDisk portworxVolume scaleIO storageos",
                Refused(Given, "mount it on the machines and use a hostPath"),
            ),
        ],
    ),
    ("core.v1", "HostPathVolumeSource", &[Row("path type", Acts(COMPILER))]),
    (
        "core.v1",
        "EmptyDirVolumeSource",
        &[
            Row("medium sizeLimit", Acts(COMPILER)),
            Row("medium", Refused(That(huge_pages), "use the medium Memory")),
        ],
    ),
    ("core.v1", "SecretVolumeSource", &[Row("secretName items defaultMode optional", Acts(COMPILER))]),
    ("core.v1", "ConfigMapVolumeSource", &[Row("name items defaultMode optional", Acts(COMPILER))]),
    ("core.v1", "KeyToPath", &[Row("key path mode", Acts(COMPILER))]),
    ("core.v1", "DownwardAPIVolumeSource", &[Row("items defaultMode", Acts(COMPILER))]),
    ("core.v1", "DownwardAPIVolumeFile", &[Row("path fieldRef resourceFieldRef mode", Acts(COMPILER))]),
    ("core.v1", "ProjectedVolumeSource", &[Row("sources defaultMode", Acts(COMPILER))]),
    (
        "core.v1",
        "VolumeProjection",
        &[
            Row("configMap secret downwardAPI serviceAccountToken", Acts(COMPILER)),
            Row("clusterTrustBundle podCertificate", Refused(Given, "use a ConfigMap or a Secret")),
        ],
    ),
    ("core.v1", "SecretProjection", &[Row("name items optional", Acts(COMPILER))]),
    ("core.v1", "ConfigMapProjection", &[Row("name items optional", Acts(COMPILER))]),
    ("core.v1", "DownwardAPIProjection", &[Row("items", Acts(COMPILER))]),
    ("core.v1", "ServiceAccountTokenProjection", &[Row("audience expirationSeconds path", Acts(COMPILER))]),
];
