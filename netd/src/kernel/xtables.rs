//! The old iptables' filter table, which nftables does not show. It is only read: the kernel changes it as a
//! whole or not at all, so two writers lose each other's rules, and it tells no listener of a change.

use std::{io, os::fd::AsRawFd as _};

use super::{Result, io as named};
use crate::plan::{attachments::PREFIX, firewall};

/// Which old tables this network namespace has; asking for one that it has not would make it.
const TABLES: &str = "/proc/thread-self/net/ip_tables_names";
/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES` of `linux/netfilter_ipv4/ip_tables.h`.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// The table's name, padded: `XT_TABLE_MAXNAMELEN`.
const NAME: usize = 32;
/// `struct ipt_getinfo`: name, valid_hooks, hook_entry\[5\], underflow\[5\], num_entries, size.
const INFO: usize = NAME + 4 * 13;
/// Where `underflow[NF_INET_FORWARD]` and `size` are in it.
const FORWARD_POLICY: usize = NAME + 4 * (1 + 5 + 2);
const SIZE: usize = NAME + 4 * 12;
/// `struct ipt_get_entries`: name, size, then the entries, aligned to 8.
const ENTRIES: usize = 40;
/// `struct ipt_entry`: where its parts are.
const INCOMING: usize = 16;
const OUTGOING: usize = 32;
const TARGET_OFFSET: usize = 88;
const NEXT_OFFSET: usize = 90;
/// `struct xt_standard_target`: the size, name and revision of 32 bytes come before the verdict.
const TARGET_HEADER: usize = 32;
/// `-NF_DROP - 1` and `-NF_ACCEPT - 1`.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const INTERFACE: usize = 16;

/// What the old filter table does with what is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyForward {
    /// Its policy is DROP.
    pub drops: bool,
    /// It has rules that accept all from and all to pods' links.
    pub accepts_pods: bool,
}

/// Reads the filter table of the calling thread's namespace; `None` when there is none.
pub fn legacy_forward() -> Result<Option<LegacyForward>> {
    let has_filter =
        std::fs::read_to_string(TABLES).is_ok_and(|names| names.lines().any(|name| name == "filter"));
    if !has_filter {
        return Ok(None);
    }
    let what = || "read the filter table of iptables-legacy".to_owned();
    let socket = named(what, raw_socket())?;
    let mut info = [0; INFO];
    info[..6].copy_from_slice(b"filter");
    named(what, get(&socket, GET_INFO, &mut info))?;
    let size = word(&info, SIZE).unwrap_or(0);
    let mut entries = vec![0; ENTRIES + size as usize];
    entries[..6].copy_from_slice(b"filter");
    entries[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
    // The table may have grown in between: the next look sees it whole.
    named(what, get(&socket, GET_ENTRIES, &mut entries))?;
    Ok(read(&entries[ENTRIES..], word(&info, FORWARD_POLICY).unwrap_or(0) as usize))
}

fn raw_socket() -> io::Result<socket2::Socket> {
    socket2::Socket::new(
        socket2::Domain::IPV4,
        socket2::Type::RAW,
        Some(socket2::Protocol::from(libc::IPPROTO_RAW)),
    )
}

/// `getsockopt` with a buffer that is both question and answer.
fn get(socket: &socket2::Socket, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads and writes at most `length` bytes at `buffer`, which is exactly that long and
    // lives until the call returns; both pointers are valid and writable.
    #[allow(unsafe_code)]
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

/// `policy` is where the entry is that holds the policy of FORWARD.
fn read(entries: &[u8], policy: usize) -> Option<LegacyForward> {
    let drops = verdict(entries.get(policy..)?)? == DROP;
    let (mut from, mut to) = (false, false);
    let mut rest = entries;
    while let Some(next) = half(rest, NEXT_OFFSET).filter(|next| *next >= NEXT_OFFSET && *next <= rest.len())
    {
        let (entry, after) = rest.split_at(next);
        if verdict(entry) == Some(ACCEPT) {
            from |= is_pods(entry, INCOMING) && is_any(entry, OUTGOING);
            to |= is_pods(entry, OUTGOING) && is_any(entry, INCOMING);
        }
        rest = after;
    }
    Some(LegacyForward { drops, accepts_pods: from && to })
}

/// The verdict of an entry with a standard target.
fn verdict(entry: &[u8]) -> Option<i32> {
    let target = entry.get(half(entry, TARGET_OFFSET)?..)?;
    let is_standard = *target.get(2)? == 0;
    let verdict = i32::from_ne_bytes(target.get(TARGET_HEADER..TARGET_HEADER + 4)?.try_into().ok()?);
    is_standard.then_some(verdict)
}

fn name(entry: &[u8], at: usize) -> &[u8] {
    let name = entry.get(at..at + INTERFACE).unwrap_or_default();
    &name[..name.iter().position(|byte| *byte == 0).unwrap_or(name.len())]
}

/// Whether the entry is for links that begin with our prefix; the `+` itself is kept in the name.
fn is_pods(entry: &[u8], at: usize) -> bool {
    let name = name(entry, at);
    name.strip_suffix(b"+").unwrap_or(name) == PREFIX.as_bytes()
}

fn is_any(entry: &[u8], at: usize) -> bool {
    name(entry, at).is_empty()
}

/// What a person must do so that pods are forwarded, as the controller and `warren status` tell it.
pub fn mend(tunnel: &str) -> String {
    let rules: Vec<_> = firewall::accepts(tunnel)
        .iter()
        .map(|accept| {
            let link = accept.link.to_string().replace('*', "+");
            format!("iptables-legacy -I CHAIN {} {link} -j ACCEPT", if accept.incoming { "-i" } else { "-o" })
        })
        .collect();
    format!(
        "the FORWARD policy of iptables-legacy is DROP, and netd does not change tables of the old iptables. Let \
         Docker use nftables instead (update-alternatives --set iptables /usr/sbin/iptables-nft; restart Docker; \
         iptables-legacy -P FORWARD ACCEPT), or accept pods' links there, with CHAIN = DOCKER-USER if it exists, \
         else FORWARD: {}",
        rules.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An `ipt_entry` with a standard target.
    fn entry(incoming: &str, outgoing: &str, verdict: i32) -> Vec<u8> {
        let mut entry = vec![0; 112 + 40];
        entry[INCOMING..INCOMING + incoming.len()].copy_from_slice(incoming.as_bytes());
        entry[OUTGOING..OUTGOING + outgoing.len()].copy_from_slice(outgoing.as_bytes());
        entry[TARGET_OFFSET..TARGET_OFFSET + 2].copy_from_slice(&112u16.to_ne_bytes());
        entry[NEXT_OFFSET..NEXT_OFFSET + 2].copy_from_slice(&152u16.to_ne_bytes());
        entry[112 + TARGET_HEADER..112 + TARGET_HEADER + 4].copy_from_slice(&verdict.to_ne_bytes());
        entry
    }

    #[test]
    fn policy_and_accepts_are_read() {
        let table =
            |entries: &[Vec<u8>], policy: usize| read(&entries.concat(), policy * 152).expect("a table");
        let closed = [entry("docker0", "", ACCEPT), entry("", "", DROP)];
        assert_eq!(table(&closed, 1), LegacyForward { drops: true, accepts_pods: false });
        let half_open = [entry("wrn+", "", ACCEPT), entry("wrn+", "", DROP), entry("", "", DROP)];
        assert_eq!(table(&half_open, 2), LegacyForward { drops: true, accepts_pods: false });
        let open = [entry("wrn+", "", ACCEPT), entry("", "wrn+", ACCEPT), entry("", "", DROP)];
        assert_eq!(table(&open, 2), LegacyForward { drops: true, accepts_pods: true });
        assert!(!table(&[entry("", "", ACCEPT)], 0).drops);
    }

    #[test]
    fn nonsense_is_no_table() {
        assert_eq!(read(&[], 0), None);
        assert_eq!(read(&[0; 40], 0), None);
        assert_eq!(read(&[0; 400], 399), None);
    }

    #[test]
    fn the_mend_names_every_link_in_both_directions() {
        let mend = mend("warren0");
        for part in
            ["-i wrn+ ", "-o wrn+ ", "-i warren0 ", "-o warren0 ", "DOCKER-USER", "update-alternatives"]
        {
            assert!(mend.contains(part), "{part}: {mend}");
        }
    }
}
