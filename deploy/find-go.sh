#!/bin/sh
# Prints the Go to build with: this machine's if it is new enough, else Debian sid's, unpacked into target/tools.
#   find-go.sh VERSION     the oldest that will do, e.g. 1.24
set -eu

[ $# = 1 ] || { echo "usage: $0 VERSION" >&2; exit 2; }
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
found=$(command -v go 2>/dev/null || true)
if [ -z "$found" ] ||
    [ "$(printf '%s\n%s\n' "$("$found" env GOVERSION | sed 's/^go//')" "$1" | sort -V | head -n1)" != "$1" ]; then
    "$here/deploy/unpack-sid.sh" "$here/target/tools/go-sid" golang-go >&2 ||
        { echo "error: Go $1 or newer is needed" >&2; exit 1; }
    found=$(echo "$here"/target/tools/go-sid/usr/lib/go-*/bin/go)
fi
echo "$found"
