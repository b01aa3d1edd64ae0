#!/bin/sh
# Installs Warren on a machine from a local file; no internet is needed.
#
#   install.sh install  --role controller|node|gateway [--role ...] [--binary FILE] [--sha256 HEX] [--start]
#   install.sh upgrade  [--binary FILE] [--sha256 HEX]
#   install.sh uninstall [--purge]
#
# The binary is FILE, by default `warren` beside this script or ../bin/warren. Its SHA-256 must be given, by --sha256
# or in FILE.sha256 (as sha256sum writes it): a binary that is not what it should be is not installed.
# Run it as often as you like: what is as it should be stays untouched. Settings in /etc/warren and state in
# /var/lib/warren-* are never overwritten, and go only with --purge.
# With DESTDIR=DIR everything goes beneath DIR, and no service, user or kernel is touched (for packages and tests).
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=${DESTDIR:-}
program=$root/usr/local/bin/warren
units=$root/etc/systemd/system
settings=$root/etc/warren
all_roles="controller node gateway"

say() { echo "install: $*"; }
fail() { echo "error: $*" >&2; exit 1; }
usage() { sed -n '4,6s/^# *//p' "$0" >&2; exit 2; }
live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

action=${1:-}
[ $# -gt 0 ] && shift
case "$action" in install | upgrade | uninstall) ;; *) usage ;; esac

roles='' binary='' sum='' start=no purge=no
while [ $# -gt 0 ]; do
    case "$1" in
    --role | --binary | --sha256) [ $# -ge 2 ] || usage ;;
    esac
    case "$1" in
    --role)
        case " $all_roles " in *" $2 "*) roles="$roles $2" ;; *) fail "--role $2: must be one of $all_roles" ;; esac
        shift ;;
    --binary) binary=$2; shift ;;
    --sha256) sum=$2; shift ;;
    --start) start=yes ;;
    --purge) purge=yes ;;
    *) usage ;;
    esac
    shift
done
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "run as root (or with DESTDIR for a scratch root)"

# Puts FILE at TARGET with MODE unless the same is there. In one step: whoever starts it meets the old or the new.
put() {
    if [ -f "$2" ] && cmp -s "$1" "$2" && [ "$(stat -c %a "$2")" = "$3" ]; then return 1; fi
    mkdir -p "$(dirname "$2")"
    cp -f "$1" "$2.new"
    chmod "$3" "$2.new"
    sync -f "$2.new" 2>/dev/null || :
    mv -f "$2.new" "$2"
}

is_role() { case " $roles $(installed_roles | tr '\n' ' ') " in *" $1 "*) true ;; *) false ;; esac; }

find_binary() {
    if [ -z "$binary" ]; then
        for candidate in "$here/warren" "$here/../bin/warren"; do
            [ -f "$candidate" ] && binary=$candidate && break
        done
    fi
    [ -n "$binary" ] || fail "there is no warren beside $0 and none in ../bin: name it with --binary FILE"
    [ -f "$binary" ] || fail "--binary $binary: no such file"
}

verify() {
    if [ -z "$sum" ]; then
        [ -f "$binary.sha256" ] || fail "the checksum of $binary is unknown: give --sha256 HEX, or put it into $binary.sha256"
        sum=$(cut -d' ' -f1 <"$binary.sha256")
    fi
    case "$sum" in *[!0-9a-fA-F]* | '') fail "the checksum is not hexadecimal" ;; esac
    [ ${#sum} = 64 ] || fail "the checksum is not a SHA-256: it has ${#sum} digits, not 64"
    # What is verified is what is installed, whatever happens to FILE meanwhile.
    verified=$(mktemp)
    trap 'rm -f "$verified"' EXIT
    cp -f "$binary" "$verified"
    found=$(sha256sum <"$verified" | cut -d' ' -f1)
    [ "$found" = "$(echo "$sum" | tr A-F a-f)" ] ||
        fail "$binary is damaged or not what it should be: its SHA-256 is $found, expected $sum; fetch it again"
}

installed_roles() {
    for role in $all_roles; do
        [ -f "$units/warren-$role.service" ] && echo "$role"
    done
    return 0
}

put_settings() {
    file=$settings/$1.env
    [ -e "$file" ] && return 0
    mkdir -p "$settings"
    case "$1" in
    controller) text='# More options of `warren controller`, for example: --tls-san warren.example.org
WARREN_CONTROLLER_FLAGS=' ;;
    *) text='# The controller, HOST:PORT
WARREN_CONTROLLER=
# The name in the cluster; lower case
WARREN_NAME=
# Needed once, unless `warren join` was run: what `warren token create` printed
#WARREN_TOKEN=' ;;
    esac
    (umask 077 && printf '%s\n' "$text" >"$file")
    say "made $file: fill it in"
}

make_user() {
    live || return 0
    getent passwd warren >/dev/null && return 0
    useradd --system --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin --user-group warren
    say "made the user warren"
}

put_program() {
    find_binary
    verify
    changed=no
    if put "$verified" "$program" 755; then
        changed=yes
        say "installed $program"
    else
        say "$program is up to date"
    fi
    for role in "$@"; do
        if put "$here/systemd/warren-$role.service" "$units/warren-$role.service" 644; then
            changed=yes
            say "installed warren-$role.service"
        fi
        put_settings "$role"
    done
    case " $* " in *" controller "*) make_user ;; esac
    if live; then systemctl daemon-reload; fi
}

# A node and a gateway replace themselves in place; a controller's restart is noticed by nobody but kubectl.
renew_services() {
    live && [ "$changed" = yes ] || return 0
    for role in "$@"; do
        systemctl is-active --quiet "warren-$role" || continue
        say "renewing warren-$role"
        systemctl reload-or-restart "warren-$role"
    done
}

remove() {
    for role in $(installed_roles); do
        if live; then systemctl disable --now --quiet "warren-$role" || :; fi
        rm -f "$units/warren-$role.service"
        say "removed warren-$role.service"
    done
    if [ -e "$program" ]; then rm -f "$program" && say "removed $program"; fi
    rm -f "$program.new"
    if live; then systemctl daemon-reload; fi
    [ "$purge" = yes ] || { say "kept $settings and $root/var/lib/warren-*: --purge removes them"; return 0; }
    for role in $all_roles; do
        rm -f "$settings/$role.env"
        rm -rf "$root/var/lib/warren-$role"
    done
    if [ -d "$settings" ]; then rmdir "$settings" 2>/dev/null || say "kept $settings: it holds files that are not ours"; fi
    # What netd left in force in the kernel goes too; without these programs a reboot does it.
    if live; then
        ip link delete warren0 2>/dev/null || :
        for family in ip ip6 arp; do
            nft delete table "$family" warren 2>/dev/null || :
        done
    fi
    say "removed settings and state"
}

case "$action" in
install)
    [ -n "$roles" ] || fail "say what this machine is: --role controller, --role node or --role gateway"
    is_role node && is_role gateway && fail "a machine is a node or a gateway, not both (both own the overlay's link)"
    # shellcheck disable=SC2086
    put_program $roles
    # shellcheck disable=SC2046
    renew_services $(installed_roles)
    if [ "$start" = yes ] && live; then
        for role in $roles; do systemctl enable --now --quiet "warren-$role" && say "started warren-$role"; done
    fi ;;
upgrade)
    present=$(installed_roles)
    [ -n "$present" ] || fail "nothing is installed here: use \`$0 install --role ...\`"
    # shellcheck disable=SC2086
    put_program $present
    # shellcheck disable=SC2086
    renew_services $present ;;
uninstall) remove ;;
esac
