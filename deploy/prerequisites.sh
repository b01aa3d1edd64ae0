#!/bin/sh
# Installs what a fresh Debian 12 lacks to build Warren and to run it on this machine: Rust (with rustup, unless cargo
# is new enough), a Docker engine (unless one answers), a C linker, kubectl. With --test also what the tests need, with
# --full what the long ones do, with --bench what the benchmarks compare with.
# Idempotent; installs nothing that is there.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
tests=no benchmarks=no full=no conformance=no
case "${1:-}" in
"") ;;
--test) tests=yes ;;
--full) tests=yes full=yes ;;
--bench) tests=yes benchmarks=yes ;;
--conformance) conformance=yes ;;
*) echo "usage: $0 [--test | --full | --bench | --conformance]" >&2; exit 2 ;;
esac

say() { echo "prerequisites: $*" >&2; }
fail() { echo "error: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
systemd_runs() { [ -d /run/systemd/system ]; }
engine_answers() { have docker && timeout 10 docker version >/dev/null 2>&1; }

# The packages that are not installed yet, out of PROGRAM:PACKAGE pairs.
missing() {
    for pair in "$@"; do
        have "${pair%%:*}" || echo "${pair#*:}"
    done
}

apt_updated=no
apt_update() {
    [ $apt_updated = yes ] && return
    apt-get update -q >/dev/null || fail "apt-get update failed: check the network and /etc/apt/sources.list"
    apt_updated=yes
}

# Installs packages; a daemon that one of them brings along is not started.
install_packages() {
    [ $# -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || fail "these packages are missing: $*: run as root: $0 (or: sudo apt-get install $*)"
    have apt-get || fail "these packages are missing, and this is no Debian: install $*"
    say "installing $*"
    apt_update
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" >/dev/null ||
        fail "apt-get install $* failed: run it by hand to see why"
}

# The toolchain must be as new as Cargo.toml says; Debian 12's is not.
rust_is_new() {
    found=$(cd "$here" && cargo --version 2>/dev/null | cut -d' ' -f2 | cut -d- -f1)
    [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n1)" = "$wanted" ]
}

# rustup brings Rust: the one that is there, or the package (Debian 13 and later have it), or the official installer.
install_rust() {
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/Cargo.toml")
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH # where rustup puts cargo; the Makefile looks there too
    rust_is_new && return
    say "cargo is ${found:-missing}, $wanted or newer is needed: installing it with rustup"
    parts="--profile minimal -c clippy -c rustfmt"
    if ! have rustup && have apt-get && [ "$(id -u)" = 0 ] && (apt_update) 2>/dev/null &&
        LC_ALL=C apt-cache policy rustup | grep -q 'Candidate: [0-9]'; then
        install_packages rustup
    fi
    # shellcheck disable=SC2086
    if have rustup; then
        rustup toolchain install stable $parts >&2 && rustup override set stable --path "$here" >&2 || true
    else
        have curl || install_packages curl ca-certificates
        installer=$(mktemp)
        curl -sSf --proto '=https' --max-time 60 -o "$installer" https://sh.rustup.rs &&
            sh "$installer" -y $parts >&2 || true
        rm -f "$installer"
    fi
    rust_is_new || fail "cargo is ${found:-missing}:" \
        "install Rust $wanted or newer with rustup (https://rustup.rs), and have cargo in PATH"
}

start_engine() {
    engine_answers && return
    if ! have dockerd; then
        # shellcheck disable=SC2046
        install_packages docker.io $(missing iptables:iptables)
    fi
    engine_answers && return
    [ "$(id -u)" = 0 ] ||
        fail "no Docker engine answers: as root start it (systemctl start docker), and give this user the group docker"
    say "starting the Docker engine"
    if systemd_runs; then
        systemctl enable --now docker >/dev/null 2>&1 || systemctl start docker
    else
        # No init system: a session of its own, so that it outlives this shell.
        setsid nohup dockerd >/var/log/dockerd.log 2>&1 </dev/null &
    fi
    for _ in $(seq 60); do
        engine_answers && return
        sleep 0.5
    done
    fail "the Docker engine does not come up: see /var/log/dockerd.log (or journalctl -u docker)"
}

check_tun() {
    [ -c /dev/net/tun ] && return
    [ "$(id -u)" = 0 ] || fail "/dev/net/tun is missing: as root run modprobe tun"
    modprobe tun 2>/dev/null || true
    if [ ! -c /dev/net/tun ] && grep -q ' tun$' /proc/misc; then
        mkdir -p /dev/net
        mknod /dev/net/tun c 10 200
    fi
    [ -c /dev/net/tun ] || fail "/dev/net/tun is missing and the kernel module tun cannot be loaded"
}

# The tests drive Debian's own kubectl, also where another version is installed.
unpack_kubectl() {
    tools=$here/target/tools/kubectl
    [ -x "$tools/usr/bin/kubectl" ] && return
    if [ "$(dpkg-query -S /usr/bin/kubectl 2>/dev/null | cut -d: -f1)" = kubernetes-client ]; then
        mkdir -p "$tools/usr/bin"
        ln -sf /usr/bin/kubectl "$tools/usr/bin/kubectl"
        return
    fi
    say "fetching kubectl (package kubernetes-client)"
    apt_update
    work=$(mktemp -d)
    (cd "$work" && apt-get download -q kubernetes-client >/dev/null 2>&1) || fail "cannot fetch kubernetes-client"
    dpkg-deb -x "$work"/kubernetes-client_*.deb "$work/root"
    mkdir -p "$tools/usr/bin"
    mv "$work/root/usr/bin/kubectl" "$tools/usr/bin/kubectl"
    rm -rf "$work"
}

# And the newest that can be had, because clients are newer than servers: Debian sid's, beside it.
unpack_newest_kubectl() {
    tools=$here/target/tools/kubectl-sid
    "$here/deploy/unpack-sid.sh" "$tools" kubectl && "$tools/usr/bin/kubectl" version --client >/dev/null 2>&1 ||
        fail "the tests need the newest kubectl at $tools/usr/bin/kubectl, and Debian sid's cannot be had:" \
            "mend what is said above, or put a kubectl of your own there and its package's name into $tools/.packages" \
            "(echo kubectl >$tools/.packages)"
}

# Helm from its Go module; by the machine's Go if that is new enough, else by Debian sid's, unpacked beside.
#   build_helm DIRECTORY VERSION
build_helm() {
    tools=$here/target/tools/$1
    [ -x "$tools/helm" ] && return
    go=$("$here/deploy/find-go.sh" 1.24) || fail "Helm cannot be built without"
    say "building Helm $2"
    (cd / && GOBIN=$tools GOTOOLCHAIN=local CGO_ENABLED=0 \
        "$go" install -trimpath "helm.sh/helm/${2%%.*}/cmd/helm@$2") >&2 || fail "Helm cannot be built: see above"
}

install_rust
# shellcheck disable=SC2046
install_packages $(missing cc:gcc kubectl:kubernetes-client)
# The linker needs the C library's static half, which gcc alone does not bring.
[ -e /usr/lib/x86_64-linux-gnu/libc.a ] || install_packages libc6-dev
start_engine
check_tun
if [ $tests = yes ]; then
    # shellcheck disable=SC2046
    install_packages $(missing ip:iproute2 nft:nftables iptables:iptables nginx:nginx-light nc:netcat-openbsd curl:curl \
        tcpdump:tcpdump promtool:prometheus)
    { [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1; } || install_packages busybox-static
    unpack_kubectl
    unpack_newest_kubectl
fi
[ $full = no ] || { build_helm helm v3.19.0 && build_helm helm-4 v4.0.0; }
if [ $benchmarks = yes ]; then
    # shellcheck disable=SC2046
    install_packages $(missing wrk:wrk etcd:etcd-server)
fi
if [ $conformance = yes ]; then
    # shellcheck disable=SC2046
    install_packages $(missing mmdebstrap:mmdebstrap)
    "$here/deploy/find-go.sh" 1.24 >/dev/null || fail "Kubernetes' suite cannot be built without"
fi
