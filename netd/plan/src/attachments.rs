//! Pods' links: how they are named and recognised, and what plugging one in takes.
//!
//! A link's alias says whose it is, so the kernel itself is the list of attachments.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use warren_proto::vocabulary::PodUid;

/// What the names of pods' links begin with, on the member's side.
pub const PREFIX: &str = "wrn";
/// What the aliases of pods' links begin with.
const MARK: &str = "warren:";

/// A pod that is, or should be, plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The pod.
    pub uid: PodUid,
    /// Its overlay address.
    pub address: Ipv4Addr,
    /// NAMESPACE/NAME, for people.
    pub pod: String,
}

impl Attachment {
    /// The name of the pod's link on the member's side: 15 characters, as many as the kernel allows.
    pub fn interface(&self) -> String {
        interface(&self.uid)
    }

    /// Reads a link's alias; `None` when it is not of ours.
    pub fn from_alias(alias: &str) -> Option<Self> {
        let mut words = alias.strip_prefix(MARK)?.splitn(3, ' ');
        let (uid, address) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { uid, address, pod: words.next().unwrap_or_default().to_owned() })
    }
}

impl fmt::Display for Attachment {
    /// The alias, at most 255 bytes: the kernel's limit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alias = format!("{MARK}{} {} {}", self.uid, self.address, self.pod);
        let end = (0..=alias.len().min(255)).rev().find(|end| alias.is_char_boundary(*end));
        f.write_str(&alias[..end.unwrap_or(0)])
    }
}

/// The name of a pod's link: the prefix and the first 12 digits of the UID, which are random.
pub fn interface(uid: &PodUid) -> String {
    let digits = uid.as_str().bytes().filter(u8::is_ascii_hexdigit).take(12);
    PREFIX.chars().chain(digits.map(|digit| digit.to_ascii_lowercase() as char)).collect()
}

/// A link on the member's side, as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugged {
    /// The link's index.
    pub index: u32,
    /// What its alias says; `None` for a link that was made and never named, after a crash.
    pub attachment: Option<Attachment>,
    /// Whether its other end is in the namespace that is asked for.
    pub here: bool,
}

/// What plugging a pod in takes. The steps are done in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachPlan {
    /// Remove this link first.
    pub remove: Option<u32>,
    /// Make a new pair.
    pub create: bool,
}

/// Why a pod cannot be plugged in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// Another pod has the address.
    #[error("address {address} is held by pod {holder} on this node; it must be detached first")]
    AddressInUse {
        /// The address.
        address: Ipv4Addr,
        /// Who has it.
        holder: PodUid,
    },
    /// Two UIDs begin alike.
    #[error("link {interface} belongs to pod {holder}, whose UID begins alike")]
    NameInUse {
        /// The link.
        interface: String,
        /// Whose it is.
        holder: PodUid,
    },
}

/// What plugging `wanted` in takes, when `existing` bears its name and `others` are plugged in already.
pub fn plan(
    wanted: &Attachment,
    existing: Option<&Plugged>,
    others: &BTreeMap<PodUid, Ipv4Addr>,
) -> Result<AttachPlan, AttachError> {
    let holder = others.iter().find(|(uid, address)| **uid != wanted.uid && **address == wanted.address);
    if let Some((holder, address)) = holder {
        return Err(AttachError::AddressInUse { address: *address, holder: holder.clone() });
    }
    let Some(existing) = existing else { return Ok(AttachPlan { remove: None, create: true }) };
    let replace = AttachPlan { remove: Some(existing.index), create: true };
    match &existing.attachment {
        Some(present) if present.uid != wanted.uid => {
            Err(AttachError::NameInUse { interface: wanted.interface(), holder: present.uid.clone() })
        }
        Some(present) if present.address == wanted.address && existing.here => {
            Ok(AttachPlan { remove: None, create: false })
        }
        _ => Ok(replace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attachment(uid: &str, address: [u8; 4]) -> Attachment {
        Attachment {
            uid: uid.parse().expect("a uid"),
            address: address.into(),
            pod: "default/web-1".to_owned(),
        }
    }
    const ONE: &str = "0123abcd-4567-4abc-8def-0123456789ab";
    const TWO: &str = "9923abcd-4567-4abc-8def-0123456789ab";

    proptest! {
        #[test]
        fn an_alias_reads_back(pod in "[a-z]{1,9}/[a-z0-9-]{1,20}", n: u32) {
            let attachment = Attachment { pod, address: n.into(), ..attachment(ONE, [0; 4]) };
            prop_assert_eq!(Attachment::from_alias(&attachment.to_string()), Some(attachment));
        }
        #[test]
        fn foreign_aliases_are_not_ours(alias in ".*") {
            prop_assume!(!alias.starts_with(MARK));
            prop_assert_eq!(Attachment::from_alias(&alias), None);
        }
        #[test]
        fn an_alias_never_exceeds_the_kernels_limit(pod in ".{0,400}") {
            let attachment = Attachment { pod, ..attachment(ONE, [10, 42, 1, 2]) };
            prop_assert!(attachment.to_string().len() <= 255);
            prop_assert!(Attachment::from_alias(&attachment.to_string()).is_some());
        }
    }

    #[test]
    fn a_link_name_fits_the_kernel() {
        assert_eq!(attachment(ONE, [0; 4]).interface(), "wrn0123abcd4567");
        assert!(attachment(ONE, [0; 4]).interface().len() <= 15);
    }

    #[test]
    fn plugging_in_twice_changes_nothing_and_another_namespace_replaces() {
        let wanted = attachment(ONE, [10, 42, 1, 2]);
        let others = BTreeMap::from([(wanted.uid.clone(), wanted.address)]);
        let plugged = |here| Plugged { index: 7, attachment: Some(wanted.clone()), here };
        assert_eq!(plan(&wanted, None, &BTreeMap::new()), Ok(AttachPlan { remove: None, create: true }));
        assert_eq!(
            plan(&wanted, Some(&plugged(true)), &others),
            Ok(AttachPlan { remove: None, create: false })
        );
        assert_eq!(
            plan(&wanted, Some(&plugged(false)), &others),
            Ok(AttachPlan { remove: Some(7), create: true })
        );
        let unnamed = Plugged { index: 7, attachment: None, here: true };
        assert_eq!(
            plan(&wanted, Some(&unnamed), &BTreeMap::new()),
            Ok(AttachPlan { remove: Some(7), create: true })
        );
    }

    #[test]
    fn an_address_has_one_pod() {
        let (wanted, other) = (attachment(ONE, [10, 42, 1, 2]), attachment(TWO, [10, 42, 1, 2]));
        let others = BTreeMap::from([(other.uid.clone(), other.address)]);
        let error = plan(&wanted, None, &others).expect_err("taken").to_string();
        assert!(error.contains("10.42.1.2") && error.contains(TWO), "{error}");
    }
}
