#!/bin/sh
# Tests install.sh in a scratch root; touches nothing else. Run by `cargo test` (tests/tests/deploy.rs).
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export DESTDIR="$scratch/root"
out=$scratch/out
program=$DESTDIR/usr/local/bin/warren
units=$DESTDIR/etc/systemd/system

fail() { echo "FAILED: $*" >&2; [ -f "$out" ] && sed 's/^/    /' "$out" >&2; exit 1; }
run() { "$here/install.sh" "$@" >"$out" 2>&1; }
must() { run "$@" || fail "install.sh $*"; }
must_not() { why=$1; shift; if run "$@"; then fail "install.sh $* succeeded"; fi; grep -q -- "$why" "$out" || fail "install.sh $*: no word of '$why'"; }
# Everything there is, with contents, modes and times of change.
picture() { (cd "$DESTDIR" && find . -type f -exec stat -c '%n %a %Y %i' {} + -exec sha256sum {} + | sort); }
release() { printf '#!/bin/sh\necho warren %s\n' "$1" >"$scratch/warren" && (cd "$scratch" && sha256sum warren >warren.sha256); }
mkdir -p "$DESTDIR"
release 1

echo "refusals: nothing is written"
must_not 'usage\|install.sh install' frobnicate
must_not '--role' install --binary "$scratch/warren"
must_not 'must be one of' install --role president
must_not 'not both' install --role node --role gateway --binary "$scratch/warren"
must_not 'no such file' install --role node --binary "$scratch/absent"
must_not 'not a SHA-256' install --role node --binary "$scratch/warren" --sha256 abc
must_not 'not hexadecimal' install --role node --binary "$scratch/warren" --sha256 xyz
must_not 'damaged' install --role node --binary "$scratch/warren" --sha256 "$(printf '%064d' 0)"
mv "$scratch/warren.sha256" "$scratch/kept"
must_not 'checksum .* is unknown' install --role node --binary "$scratch/warren"
mv "$scratch/kept" "$scratch/warren.sha256"
must_not 'nothing is installed' upgrade --binary "$scratch/warren"
[ -z "$(find "$DESTDIR" -type f)" ] || fail "a refusal wrote files"

echo "install: binary, unit, settings"
must install --role node --role controller --binary "$scratch/warren"
[ "$("$program")" = "warren 1" ] || fail "the program does not run"
[ "$(stat -c %a "$program")" = 755 ] || fail "the program's mode"
for role in node controller; do
    cmp -s "$here/systemd/warren-$role.service" "$units/warren-$role.service" || fail "the unit of $role"
    [ "$(stat -c %a "$DESTDIR/etc/warren/$role.env")" = 600 ] || fail "a token would be readable by all"
done
[ ! -e "$units/warren-gateway.service" ] || fail "a gateway nobody asked for"
[ ! -e "$program.new" ] || fail "a leftover"

echo "install again: nothing changes"
echo WARREN_NAME=node-7 >>"$DESTDIR/etc/warren/node.env"
before=$(picture)
must install --role node --role controller --binary "$scratch/warren"
[ "$before" = "$(picture)" ] || fail "a second install changed something"
must upgrade --binary "$scratch/warren"
[ "$before" = "$(picture)" ] || fail "an upgrade to the same changed something"

must_not 'not both' install --role gateway --binary "$scratch/warren"
[ "$before" = "$(picture)" ] || fail "a refused role changed something"

echo "upgrade: the program alone"
inode=$(stat -c %i "$program")
release 2
must upgrade --binary "$scratch/warren"
[ "$("$program")" = "warren 2" ] || fail "not upgraded"
[ "$(stat -c %i "$program")" != "$inode" ] || fail "overwritten in place: a running program would break"
grep -q node-7 "$DESTDIR/etc/warren/node.env" || fail "settings were lost"
release 3
echo tampered >>"$scratch/warren"
must_not damaged upgrade --binary "$scratch/warren"
[ "$("$program")" = "warren 2" ] || fail "a damaged program was installed"
echo '# edited' >>"$units/warren-node.service"
release 2
must upgrade --binary "$scratch/warren" --sha256 "$(sha256sum <"$scratch/warren" | cut -d' ' -f1 | tr a-f A-F)"
cmp -s "$here/systemd/warren-node.service" "$units/warren-node.service" || fail "the unit was not renewed"

echo "uninstall: settings and state stay, and go with --purge"
mkdir -p "$DESTDIR/var/lib/warren-node/identity" "$DESTDIR/usr/local/bin" "$DESTDIR/etc/systemd/system"
touch "$DESTDIR/usr/local/bin/other" "$DESTDIR/etc/systemd/system/other.service" "$DESTDIR/etc/warren/mine"
must uninstall
[ ! -e "$program" ] && [ ! -e "$units/warren-node.service" ] || fail "not removed"
[ -e "$DESTDIR/var/lib/warren-node/identity" ] && grep -q node-7 "$DESTDIR/etc/warren/node.env" || fail "state was lost"
must uninstall
must install --role node --binary "$scratch/warren"
must uninstall --purge
must uninstall --purge
left=$(cd "$DESTDIR" && find . -type f | sort | tr '\n' ' ')
[ "$left" = "./etc/systemd/system/other.service ./etc/warren/mine ./usr/local/bin/other " ] || fail "left: $left"
[ ! -e "$DESTDIR/var/lib/warren-node" ] || fail "state was left"
echo "all passed"
