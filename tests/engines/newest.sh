#!/bin/sh
# Runs a command against the newest Docker engine that can be had: Debian sid's, unpacked beside the system's, with
# directories, socket, containerd and network of its own. The engine of this machine is not touched.
#   newest.sh COMMAND...          with DOCKER_HOST set
# It needs root. Where things are while it runs:
#   network      a namespace of its own, for the command, too: published ports are on its 127.0.0.1, and the engines'
#                firewall rules do not meet
#   programs     a mount namespace in which sid's /usr lies over this machine's: sid's runc wants sid's C library
#   state        /var/lib/warren-newest-engine; removed at the end
set -eu

[ $# -gt 0 ] || { echo "usage: $0 COMMAND..." >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "error: $0 needs root" >&2; exit 1; }
# Mounts that the command makes must reach the engine, and nothing else: a tree of mounts that the two share. (Where
# systemd runs, the machine's own tree is shared; elsewhere it is private.)
[ -n "${WARREN_ENGINE_MOUNTS:-}" ] ||
    WARREN_ENGINE_MOUNTS=own exec unshare --mount --propagation private "$0" "$@"
mount --make-rshared /
here=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
name=${WARREN_ENGINE:-warren-newest-engine}
tree=$here/target/tools/docker-sid
root=/var/lib/$name
run=/run/$name
export DOCKER_HOST="unix://$run/docker.sock"

"$here/deploy/unpack-sid.sh" "$tree" docker.io containerd runc libc6 libseccomp2

engine='' containerd='' images=''
stop_process() {
    [ -n "$1" ] || return 0
    kill "$1" 2>/dev/null || return 0
    for _ in $(seq 150); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.2
    done
    kill -9 "$1" 2>/dev/null || true
}
clean() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "$engine" ]; then
        # shellcheck disable=SC2046
        set -- $(timeout 30 docker ps -aq 2>/dev/null || true)
        [ $# = 0 ] || timeout 120 docker rm -f "$@" >/dev/null 2>&1 || true
    fi
    stop_process "$engine"
    stop_process "$containerd"
    [ $status = 0 ] || tail -n 30 "$root"/*.log >&2 2>/dev/null || true
    ip netns delete "$name" 2>/dev/null || true
    rm -rf "$root" "$run" "$images"
    # The engine's cgroups, deepest first; empty now.
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
        [ -d "$hierarchy/$name" ] && find "$hierarchy/$name" -depth -type d -exec rmdir {} + 2>/dev/null
    done
    exit $status
}
if [ -e "$run" ]; then
    echo "error: $run is there: another run of $0 goes on, or was killed (then: rm -r $run $root; ip netns delete $name)" >&2
    exit 1
fi
trap clean EXIT
trap 'exit 129' INT TERM
# Made where there is a network to fetch packages by.
images=$(mktemp)
DOCKER_HOST='' "$here/deploy/examples/guestbook/images.sh" >&2
# shellcheck disable=SC2046
DOCKER_HOST='' docker save -o "$images" $(sed -n 's/^#   \(guestbook-.*\)/\1/p' "$here/deploy/examples/guestbook/images.sh")
mkdir -p "$root" "$run"
ip netns add "$name"

# A program of sid's in the engine's namespaces. Not `ip netns exec`: that hides the cgroups' mounts.
lower="$tree/usr:/usr"
within() {
    exec nsenter --net="/run/netns/$name" unshare --mount --propagation slave sh -c \
        'mount -t overlay -o "ro,lowerdir=$1" overlay /usr && shift && exec "$@"' sh "$lower" "$@"
}
nsenter --net="/run/netns/$name" ip link set lo up
cat >"$root/containerd.toml" <<CONF
version = 3
root = "$root/containerd"
state = "$run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"]
[grpc]
  address = "$run/containerd.sock"
[ttrpc]
  address = "$run/containerd.sock.ttrpc"
CONF
# The same mount namespace for both: what the one mounts the other must see.
cat >"$root/start" <<'START'
#!/bin/sh
root=$1 run=$2 name=$3
containerd --config "$root/containerd.toml" >"$root/containerd.log" 2>&1 &
echo $! >"$run/containerd.pid"
exec dockerd --containerd "$run/containerd.sock" --data-root "$root/docker" --exec-root "$run/docker" \
    --pidfile "$run/docker.pid" -H "unix://$run/docker.sock" --cgroup-parent "/$name" --log-level warn \
    >"$root/dockerd.log" 2>&1
START
within sh "$root/start" "$root" "$run" "$name" &
engine=$!
for _ in $(seq 300); do
    containerd=$(cat "$run/containerd.pid" 2>/dev/null || true)
    timeout 10 docker version >/dev/null 2>&1 && break
    kill -0 "$engine" 2>/dev/null || { echo "error: the newest engine does not start" >&2; exit 1; }
    sleep 0.2
done
version=$(timeout 10 docker version --format '{{.Server.Version}}') ||
    { echo "error: the newest engine does not answer" >&2; exit 1; }
echo "newest.sh: Docker engine $version, $(docker version --format \
    '{{range .Server.Components}}{{.Name}} {{.Version}} {{end}}')" >&2

docker load -q -i "$images" >&2
nsenter --net="/run/netns/$name" "$@"
