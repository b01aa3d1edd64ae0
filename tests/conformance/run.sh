#!/bin/sh
# Runs Kubernetes' conformance tests against a cluster of their own, and writes what came out (`make conformance`):
#   FOCUS=REGEX, SKIP=REGEX   only some tests, by name; the page is then printed, not written, unless WRITE=1
#   NODES=3                   how many nodes the cluster has
#   PROCESSES=6               how many tests run at a time; serial ones run alone, after the others
#   LIMIT=7m                  the longest that one test may take, and as long again to clean up
#   KEEP=1                    leaves the cluster for a look
# The program is bin/warren, or what WARREN_BIN names. Results of earlier runs of the same program are merged in; a run of
# all tests begins anew. Logs and reports: target/conformance.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
repository=$(CDPATH='' cd -- "$here/../.." && pwd)
warren=${WARREN_BIN:-$repository/bin/warren}
name=${CLUSTER:-conformance}
results=$repository/target/conformance
tools=$results/tools
FOCUS=${FOCUS:-} SKIP=${SKIP:-}

program=$("$warren" version | head -n1)
"$here/build.sh" "$tools"
"$here/images.sh" "$tools"

# Reports of another program are no part of this one's result.
reports=$results/reports
if [ -z "$FOCUS$SKIP" ] || [ "$(cat "$reports/program" 2>/dev/null)" != "$program" ]; then
    rm -rf "$reports"
fi
mkdir -p "$reports"
echo "$program" >"$reports/program"

config=$(mktemp)
end() {
    status=$?
    trap - EXIT INT TERM
    [ "${KEEP:-0}" = 1 ] || "$warren" down --name "$name" >&2 || status=1
    rm -f "$config"
    exit $status
}
trap end EXIT
trap 'exit 129' INT TERM
# What a run that was killed left behind.
[ "${KEEP:-0}" = 1 ] || "$warren" down --name "$name" >&2
"$warren" up --name "$name" --nodes "${NODES:-3}" --api-port "${API_PORT:-26443}" \
    --gateway-http "${GATEWAY_HTTP:-26080}" --gateway-https "${GATEWAY_HTTPS:-26081}" >&2
"$warren" kubeconfig --name "$name" >"$config"

run=$(date -u +%Y%m%dT%H%M%S)
echo "conformance: the tests run; log: $results/$run.log" >&2
set -- --procs="${PROCESSES:-6}" --no-color --timeout=8h --label-filter=Conformance --output-dir="$reports" \
    --json-report="$run.json"
[ -z "$FOCUS" ] || set -- "$@" --focus="$FOCUS"
[ -z "$SKIP" ] || set -- "$@" --skip="$SKIP"
# Failed tests are a result; a run that brought none is refused by the report.
"$tools/ginkgo" "$@" "$tools/conformance.test" -- --provider=skeleton --kubeconfig="$config" \
    --kubectl-path="$tools/kubectl" --disable-log-dump --limit="${LIMIT:-7m}" >"$results/$run.log" 2>&1 || true

suite=$(cd "$here" && "$(../../deploy/find-go.sh 1.24)" list -m -f '{{.Version}}' k8s.io/kubernetes)
"$tools/report" -program "$program" -suite "$suite" "$reports"/*.json >"$results/conformance.md" ||
    { tail -n 30 "$results/$run.log" >&2; exit 1; }
if [ -z "$FOCUS$SKIP" ] || [ "${WRITE:-0}" = 1 ]; then
    mkdir -p "$repository/docs"
    cp "$results/conformance.md" "$repository/docs/conformance.md"
    sed -n '/^[0-9]* of/,/^| all/p' "$repository/docs/conformance.md"
else
    cat "$results/conformance.md"
fi
