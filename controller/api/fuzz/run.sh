#!/bin/sh
# Runs every fuzz target for SECONDS each (default 60) from the committed corpus: fuzz/run.sh [SECONDS] [TARGET...]
# A panic, an input that takes longer than ten seconds, or 1 GiB of memory is a failure; libFuzzer names the input.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
[ $# -gt 0 ] && shift
targets=${*:-$(ls corpus)}
command -v cargo-fuzz >/dev/null || (cd / && cargo install cargo-fuzz --locked)
for target in $targets; do
    echo "fuzzing $target for $seconds s"
    # What is found new stays out of the committed corpus.
    new=$(mktemp -d)
    trap 'rm -rf "$new"' EXIT
    # The library's coverage flags are unstable, the compiler is not: no second toolchain is needed.
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none "$target" "$new" "corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1
    rm -rf "$new"
done
