#!/bin/sh
# Builds the images that the tests run, out of Debian packages already installed here (no registry is needed):
#   busybox:1.36            busybox-static (its wget crashes with -T: do not use that option)
#   nginx:1.14.2, :1.16.1   Debian's nginx under the names that the Kubernetes documentation uses
# Idempotent: an image that exists is left alone, unless FORCE=1.
set -eu

have() { [ "${FORCE:-0}" != 1 ] && docker image inspect "$1" >/dev/null 2>&1; }

need() {
    [ -x "$1" ] || { echo "error: $1 is missing; run deploy/prerequisites.sh --test (package $2)" >&2; exit 1; }
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Copies a program and the shared objects that it needs.
copy_program() {
    root=$1 program=$2
    mkdir -p "$root$(dirname "$program")"
    cp -L "$program" "$root$program"
    ldd "$program" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        [ -e "$root$library" ] || cp -L "$library" "$root$library"
    done
}

# image NAME ROOT INSTRUCTION...: a tree and Dockerfile instructions, from scratch.
image() {
    name=$1 tree=$2
    shift 2
    { echo 'FROM scratch'; echo 'COPY root /'; printf '%s\n' "$@"; } >"$work/Dockerfile"
    rm -rf "$work/context" && mkdir "$work/context"
    mv "$tree" "$work/context/root" && cp "$work/Dockerfile" "$work/context/"
    DOCKER_BUILDKIT=0 docker build -q -t "$name" "$work/context" >/dev/null 2>"$work/errors" || { cat "$work/errors" >&2; exit 1; }
}

users() {
    mkdir -p "$1/etc" "$1/tmp"
    chmod 1777 "$1/tmp"
    printf 'root:x:0:0:root:/:/bin/sh\nwww-data:x:33:33:www:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$1/etc/passwd"
    printf 'root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n' >"$1/etc/group"
}

busybox() {
    mkdir -p "$1/bin" "$1/proc" "$1/sys" "$1/dev"
    cp -L /bin/busybox "$1/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$1/bin/$applet"
    done
}

if ! have busybox:1.36; then
    need /bin/busybox busybox-static
    root=$work/busybox
    users "$root"
    busybox "$root"
    image busybox:1.36 "$root" 'ENV PATH=/bin' 'CMD ["sh"]'
fi

for version in 1.14.2 1.16.1; do
    have "nginx:$version" && continue
    need /usr/sbin/nginx nginx-light
    root=$work/nginx-$version
    users "$root"
    busybox "$root"
    copy_program "$root" /usr/sbin/nginx
    mkdir -p "$root/etc/nginx" "$root/var/log/nginx" "$root/var/lib/nginx" "$root/run" "$root/usr/share/nginx/html"
    cp /etc/nginx/mime.types "$root/etc/nginx/"
    cat >"$root/etc/nginx/nginx.conf" <<'CONF'
user www-data;
worker_processes 1;
error_log /dev/stderr;
events { worker_connections 512; }
http {
    include mime.types;
    access_log off;
    server { listen 80; root /usr/share/nginx/html; }
}
CONF
    echo "<html><body><h1>Welcome to nginx!</h1>$version</body></html>" >"$root/usr/share/nginx/html/index.html"
    image "nginx:$version" "$root" 'ENV PATH=/usr/sbin:/bin' 'EXPOSE 80' 'STOPSIGNAL SIGQUIT' \
        'CMD ["nginx", "-g", "daemon off;"]'
done
