#!/bin/sh
# Unpacks packages of Debian sid into a directory, beside the system: nothing is installed, and apt's own lists, cache
# and sources are not touched. Signatures are checked with Debian's keys.
#   unpack-sid.sh DIRECTORY PACKAGE...
# Quick where it was done before; remove the directory for a newer version. DEBIAN_MIRROR names another mirror.
set -eu

[ $# -ge 2 ] || { echo "usage: $0 DIRECTORY PACKAGE..." >&2; exit 2; }
directory=$1
shift
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

[ "$(cat "$directory/.packages" 2>/dev/null)" = "$*" ] && exit 0

fail() {
    [ -s "$work/said" ] && cat "$work/said" >&2
    echo "error: $*" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for program in apt-get dpkg-deb; do
    command -v $program >/dev/null 2>&1 || fail "$program is missing, and this is no Debian:" \
        "unpack these packages of Debian sid into $directory by hand: $*"
done
[ -e $keyring ] || fail "Debian's keys are missing: install debian-archive-keyring"

mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/tree"
: >"$work/status"
cat >"$work/sid.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: sid
Components: main
Targets: Packages
Signed-By: $keyring
SOURCES
cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sid.sources";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
APT::Get::AllowUnauthenticated "false";
APT::Update::Error-Mode "any";
APT::Sandbox::User "$(id -un)";
Acquire::Retries "3";
CONF
export APT_CONFIG="$work/apt.conf"

echo "unpack-sid: fetching $* from $mirror" >&2
timeout 600 apt-get update -q >"$work/said" 2>&1 ||
    fail "Debian sid cannot be reached at $mirror: check the network, or name a mirror: DEBIAN_MIRROR=URL $0 ..."
(cd "$work/debs" && timeout 600 apt-get download -q "$@") >"$work/said" 2>&1 ||
    fail "cannot fetch $* from Debian sid at $mirror"
for package in "$work"/debs/*.deb; do
    dpkg-deb -x "$package" "$work/tree" >"$work/said" 2>&1 || fail "cannot unpack ${package##*/}"
done
echo "$*" >"$work/tree/.packages"
chmod 755 "$work/tree"
mkdir -p "$(dirname "$directory")"
rm -rf "$directory"
mv "$work/tree" "$directory"
