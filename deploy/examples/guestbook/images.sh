#!/bin/sh
# Builds the guestbook's images out of Debian 12 packages: no registry is needed, and nothing is installed here.
#   guestbook-nginx:1.22   guestbook-python:3.11   guestbook-redis:7.0
# Each holds one program, the shared objects that it needs, and little else. Packages come by apt, which checks
# their signatures. Idempotent: an image that exists is left alone, unless FORCE=1.
set -eu

fail() { echo "error: $*" >&2; exit 1; }
have() { [ "${FORCE:-0}" != 1 ] && docker image inspect "$1" >/dev/null 2>&1; }

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "this needs Debian's apt and dpkg"
docker version >/dev/null 2>&1 || fail "no Docker engine answers: run deploy/prerequisites.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/debs" "$work/packages"

# fetch PACKAGE...: unpacks the packages into $work/packages; what is there is not fetched again.
fetch() {
    wanted=
    for package in "$@"; do
        [ -e "$work/debs/$package" ] || wanted="$wanted $package"
    done
    [ -n "$wanted" ] || return 0
    # shellcheck disable=SC2086
    (cd "$work/debs" && { apt-get download -q $wanted || { apt-get update -q && apt-get download -q $wanted; }; }) \
        >"$work/apt" 2>&1 || { cat "$work/apt" >&2; fail "apt cannot fetch:$wanted"; }
    for file in "$work"/debs/*.deb; do
        dpkg-deb -x "$file" "$work/packages"
        rm "$file"
    done
    for package in $wanted; do : >"$work/debs/$package"; done
}

# needs PATH: lists the shared objects of a program as the packages' own loader finds them; fails if one is missing.
needs() {
    loader=$(find "$work/packages/lib" -name 'ld-linux*.so.*' -type f | head -n1)
    libraries=$(dirname "$loader")
    "$loader" --library-path "$libraries:$work/packages/usr${libraries#"$work/packages"}" \
        --list "$work/packages/$1" >"$work/needed" 2>&1 && ! grep -q 'not found' "$work/needed"
}

# add_program PATH: copies a program and its shared objects into $root.
add_program() {
    needs "$1" || { cat "$work/needed" >&2; fail "$1 lacks a shared object"; }
    mkdir -p "$root/$(dirname "$1")"
    cp -L "$work/packages/$1" "$root/$1"
    grep -o "$work/packages/[^ ]*" "$work/needed" | while read -r library; do
        target=$root/${library#"$work/packages/"}
        mkdir -p "$(dirname "$target")"
        [ -e "$target" ] || cp -L "$library" "$target"
    done
    # The loader's own name, which is written into every program.
    for link in "$work"/packages/lib64 "$work"/packages/lib/ld-linux*; do
        target=$root/${link#"$work/packages/"}
        { [ ! -e "$link" ] && [ ! -L "$link" ]; } || [ -e "$target" ] || cp -a "$link" "$target"
    done
}

# An empty tree with users, a /tmp, and busybox for whoever wants to look around.
begin() {
    root=$work/root
    fetch busybox-static libc6 zlib1g libssl3
    mkdir -p "$root/etc" "$root/tmp" "$root/bin" "$root/lib"
    chmod 1777 "$root/tmp"
    printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    cp -L "$work/packages/bin/busybox" "$root/bin/busybox"
    for applet in sh ls cat chown id ps env wget; do ln -s busybox "$root/bin/$applet"; done
}

# finish NAME INSTRUCTION...: the tree and Dockerfile instructions become an image.
finish() {
    name=$1
    shift
    mkdir "$work/context"
    mv "$root" "$work/context/root"
    { echo 'FROM scratch'; echo 'COPY root /'; echo 'ENV PATH=/usr/sbin:/usr/bin:/bin'; printf '%s\n' "$@"; } \
        >"$work/context/Dockerfile"
    DOCKER_BUILDKIT=0 docker build -q --force-rm --network none -t "$name" "$work/context" >"$work/build" 2>&1 ||
        { cat "$work/build" >&2; fail "$name cannot be built"; }
    rm -rf "$work/context"
    echo "built $name"
}

if ! have guestbook-nginx:1.22; then
    begin
    fetch nginx nginx-common libcrypt1 libpcre2-8-0
    add_program usr/sbin/nginx
    mkdir -p "$root/etc/nginx"
    cp "$work/packages/etc/nginx/mime.types" "$root/etc/nginx/"
    finish guestbook-nginx:1.22 'RUN ["nginx", "-e", "stderr", "-v"]' 'STOPSIGNAL SIGQUIT' \
        'CMD ["nginx", "-e", "stderr", "-g", "daemon off;"]'
fi

if ! have guestbook-python:3.11; then
    begin
    fetch python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libexpat1
    add_program usr/bin/python3.11
    ln -s python3.11 "$root/usr/bin/python3"
    # The standard library; modules in C whose libraries are not here (curses, sqlite, ...) stay out.
    mkdir -p "$root/usr/lib"
    cp -a "$work/packages/usr/lib/python3.11" "$root/usr/lib/"
    (cd "$root/usr/lib/python3.11" && rm -rf idlelib lib2to3 pydoc_data tkinter turtledemo ensurepip sitecustomize.py)
    for module in "$root"/usr/lib/python3.11/lib-dynload/*.so; do
        module=${module#"$root/"}
        if needs "$module"; then add_program "$module"; else rm "$root/$module"; fi
    done
    # Imported once: a smoke test that also leaves the compiled modules behind for quick starts.
    finish guestbook-python:3.11 'RUN ["python3", "-c", "import http.server, json, queue, signal, ssl, uuid"]' \
        'CMD ["python3"]'
fi

if ! have guestbook-redis:7.0; then
    begin
    fetch redis-server redis-tools libatomic1 libjemalloc2 liblzf1 libsystemd0 libcap2 libgcrypt20 libgpg-error0 \
        liblz4-1 liblzma5 libzstd1 libstdc++6 libgcc-s1
    add_program usr/bin/redis-server
    add_program usr/bin/redis-cli
    finish guestbook-redis:7.0 'RUN ["redis-server", "--version"]' 'CMD ["redis-server"]'
fi
