#!/bin/sh
# Makes the images that the conformance tests name, without a registry, under the very names that the suite has:
#   images.sh TOOLS        TOOLS holds the programs that build.sh makes
# What each is: Dockerfile. Debian's packages come by apt, which checks their signatures; nothing is installed here.
# Idempotent: an image that exists is left alone, unless FORCE=1.
set -eu

[ $# = 1 ] || { echo "usage: $0 TOOLS" >&2; exit 2; }
tools=$1
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# Debian names of what the suite's pods call: dig and nslookup, curl, iperf, ip and ss, nc.
packages=bash,bind9-dnsutils,curl,iperf,iproute2,netcat-openbsd
targets="agnhost busybox httpd jessie-dnsutils kitten nautilus nginx nonewprivs nonroot pause"

have() { [ "${FORCE:-0}" != 1 ] && docker image inspect "$1" >/dev/null 2>&1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run() {
    "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; echo "error: failed: $*" >&2; exit 1; }
}

"$tools/conformance.test" --list-images >"$work/wanted" 2>/dev/null
if ! have warren-conformance-root; then
    echo "images: a root of Debian's packages" >&2
    run mmdebstrap --variant=essential --include="$packages" bookworm "$work/root.tar"
    run docker import "$work/root.tar" warren-conformance-root
    rm "$work/root.tar"
fi
mkdir "$work/context"
# Sid's: the shell of Debian 12's busybox does not pass on variables such as data-1, which pods may have. (Sid's says
# "sh: line 0: can't create", not "sh: can't create": one test of a read-only root wants the latter, and fails by that.)
"$here/../../deploy/unpack-sid.sh" "$tools/busybox-sid" busybox-static
cp "$tools/busybox-sid/usr/bin/busybox" "$here/Dockerfile" "$tools/agnhost" "$tools/nonewprivs" \
    "$tools/localhost.crt" "$tools/localhost.key" "$work/context/"
for target in $targets; do
    # AgnhostPrivate and its like are of registries that ask for a password; their tests expect to be refused.
    for name in $(grep -E "^registry\.k8s\.io/(.*/)?$target:" "$work/wanted"); do
        have "$name" && continue
        echo "images: $name" >&2
        run env DOCKER_BUILDKIT=0 docker build -q --force-rm --network none --target "$target" -t "$name" "$work/context"
    done
done
