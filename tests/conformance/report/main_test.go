package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2/types"
)

func spec(name string, state types.SpecState, minute int, message string) types.SpecReport {
	return types.SpecReport{
		LeafNodeType: types.NodeTypeIt, LeafNodeText: name, State: state,
		StartTime: time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC), Failure: types.Failure{Message: message},
	}
}

func file(t *testing.T, name string, specs ...types.SpecReport) string {
	t.Helper()
	data, err := json.Marshal([]types.Report{{SpecReports: specs, EndTime: time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC)}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheLatestRunOfATestCounts(t *testing.T) {
	names, err := conformanceTests()
	if err != nil || len(names) < 400 {
		t.Fatalf("the suite has %d conformance tests: %v", len(names), err)
	}
	late := file(t, "late", spec(names[0], types.SpecStatePassed, 9, ""), spec(names[1], types.SpecStateFailed, 9, "new"),
		spec(names[2], types.SpecStateSkipped, 9, ""))
	early := file(t, "early", spec(names[0], types.SpecStateFailed, 1, "old"), spec(names[2], types.SpecStateSkipped, 1, "why"))
	var out strings.Builder
	if err := run(&out, "warren", "v1", []string{late, early}); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, expected := range []string{": new\n", ": why\n", "Tested: warren, Kubernetes v1, 2026-01-01.\n1 of "} {
		if !strings.Contains(page, expected) {
			t.Errorf("%q is missing in:\n%s", expected, page)
		}
	}
	if strings.Contains(page, "old") {
		t.Errorf("an earlier failure counts:\n%s", page)
	}
}

func TestARunWhoseSetupFailedIsNoResult(t *testing.T) {
	setup := types.SpecReport{LeafNodeType: types.NodeTypeSynchronizedBeforeSuite, State: types.SpecStateFailed,
		Failure: types.Failure{Message: "no nodes"}}
	err := run(&strings.Builder{}, "warren", "v1", []string{file(t, "failed", setup)})
	if err == nil || !strings.Contains(err.Error(), "no nodes") {
		t.Fatalf("got %v", err)
	}
}

func TestAReasonIsALine(t *testing.T) {
	for message, expected := range map[string]string{
		"creating pods: a\n    <*errors.StatusError | 0xc0012>: \n    not found\n    {\n        ErrStatus: 1": "creating pods: a not found",
		"Expected\n    <bool>: false\nto be true":                                                             "Expected false to be true",
		"a_b|c":                              `a\_b\|c`,
		"wrong (&v1.Pod{Name:\"x\"}) indeed": "wrong",
		"got instead:\n  <*v1.Pod>: \n spec": "got instead: spec",
	} {
		if got := condensed(message); got != expected {
			t.Errorf("%q: got %q", message, got)
		}
	}
}
