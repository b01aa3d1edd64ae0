#!/bin/sh
# Builds the suite and the programs of its module that the tests need (go.mod says which, and which version):
#   build.sh TOOLS
set -eu

[ $# = 1 ] || { echo "usage: $0 TOOLS" >&2; exit 2; }
mkdir -p "$1"
tools=$(CDPATH='' cd -- "$1" && pwd)
cd "$(dirname -- "$0")"
go=$(../../deploy/find-go.sh 1.24)
export CGO_ENABLED=0 GOTOOLCHAIN=local

version=$("$go" list -m -f '{{.Version}}' k8s.io/kubernetes)
flags="-s -w -X k8s.io/component-base/version.gitVersion=$version"
# Each of the large programs alone: linking one takes gigabytes.
"$go" build -ldflags "$flags" -o "$tools/" k8s.io/kubernetes/test/images/agnhost
"$go" build -ldflags "$flags" -o "$tools/" k8s.io/kubernetes/cmd/kubectl
"$go" build -ldflags "$flags" -o "$tools/" k8s.io/kubernetes/test/images/nonewprivs
"$go" build -ldflags "$flags" -o "$tools/" github.com/onsi/ginkgo/v2/ginkgo
"$go" build -ldflags "$flags" -o "$tools/" ./report
"$go" test -c -ldflags "$flags" -o "$tools/conformance.test" .
porter=$("$go" list -f '{{.Dir}}' k8s.io/kubernetes/test/images/agnhost/porter)
install -m 644 "$porter/localhost.crt" "$porter/localhost.key" "$tools/"
