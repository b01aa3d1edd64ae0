// Command report writes what one program of Warren does with the conformance tests as a page in Markdown, from the
// reports of one or more runs (ginkgo's JSON): of a test that ran more than once, the latest run counts.
//
//	report -program "warren 0.1.0 (abc1234, ...)" -suite v1.34.4 REPORT...
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2/types"
	"go.yaml.in/yaml/v2"

	testdata "k8s.io/kubernetes/test/conformance/testdata"
)

// longestReason is where a failure's reason is cut, in characters.
const longestReason = 300

// verdicts are the latest reports of the tests that ran, by name.
type verdicts map[string]types.SpecReport

func main() {
	program := flag.String("program", "", "what was tested, as `warren version` says it")
	suite := flag.String("suite", "", "the version of the suite")
	flag.Parse()
	if err := run(os.Stdout, *program, *suite, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, program, suite string, files []string) error {
	names, err := conformanceTests()
	if err != nil {
		return err
	}
	ran := verdicts{}
	var last time.Time
	for _, file := range files {
		ended, err := ran.read(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if ended.After(last) {
			last = ended
		}
	}
	if len(ran) == 0 {
		return errors.New("no test ran")
	}
	return write(out, fmt.Sprintf("%s, Kubernetes %s, %s", program, suite, last.UTC().Format(time.DateOnly)), names, ran)
}

// conformanceTests are the names of all tests that make conformance, in the suite's own order.
func conformanceTests() ([]string, error) {
	data, err := testdata.GetConformanceTestdataFS().ReadTestFile("test/conformance/testdata/conformance.yaml")
	if err != nil {
		return nil, fmt.Errorf("the suite's list of conformance tests: %w", err)
	}
	var tests []struct{ Codename string }
	if err := yaml.Unmarshal(data, &tests); err != nil {
		return nil, fmt.Errorf("the suite's list of conformance tests: %w", err)
	}
	names := make([]string, 0, len(tests))
	for _, test := range tests {
		names = append(names, test.Codename)
	}
	return names, nil
}

// read adds the tests that ran according to a file, and returns when that run ended.
func (ran verdicts) read(file string) (time.Time, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return time.Time{}, err
	}
	var reports []types.Report
	if err := json.Unmarshal(data, &reports); err != nil {
		return time.Time{}, err
	}
	var ended time.Time
	for _, report := range reports {
		ended = report.EndTime
		for _, spec := range report.SpecReports {
			if spec.LeafNodeType != types.NodeTypeIt {
				if spec.Failed() {
					return ended, fmt.Errorf("%s: %s", spec.LeafNodeType, reason(spec))
				}
				continue
			}
			// Not chosen (a test that leaves itself out says why), or left by an interruption.
			unchosen := spec.State.Is(types.SpecStateSkipped) && spec.Failure.Message == ""
			if unchosen || spec.State.Is(types.SpecStatePending|types.SpecStateInterrupted) {
				continue
			}
			name := spec.FullText()
			if earlier, found := ran[name]; !found || earlier.StartTime.Before(spec.StartTime) {
				ran[name] = spec
			}
		}
	}
	return ended, nil
}

// count is a line of the table.
type count struct{ passed, failed, notRun int }

func (c count) add(other count) count {
	return count{c.passed + other.passed, c.failed + other.failed, c.notRun + other.notRun}
}

func (c count) line(name string) string {
	return fmt.Sprintf("| %s | %d | %d | %d | %d |\n", name, c.passed, c.failed, c.notRun, c.passed+c.failed+c.notRun)
}

func write(out io.Writer, tested string, names []string, ran verdicts) error {
	counts := map[string]count{}
	failed, skipped := map[string][]string{}, map[string][]string{}
	var total count
	for _, name := range names {
		group, rest := split(name)
		spec, found := ran[name]
		var one count
		switch {
		case !found:
			one.notRun = 1
		case spec.State.Is(types.SpecStatePassed):
			one.passed = 1
		case spec.State.Is(types.SpecStateSkipped):
			one.notRun = 1
			skipped[group] = append(skipped[group], fmt.Sprintf("* %s: %s\n", rest, reason(spec)))
		default:
			one.failed = 1
			failed[group] = append(failed[group], fmt.Sprintf("* %s: %s\n", rest, reason(spec)))
		}
		counts[group] = counts[group].add(one)
		total = total.add(one)
	}
	groups := make([]string, 0, len(counts))
	for group := range counts {
		groups = append(groups, group)
	}
	slices.Sort(groups)

	var page strings.Builder
	page.WriteString("# Kubernetes' conformance tests\n\n")
	page.WriteString("Written by `make conformance`; not meant to be edited. ")
	fmt.Fprintf(&page, "Tested: %s.\n%d of %d pass.\n\n", tested, total.passed, len(names))
	page.WriteString("| group | passed | failed | not run | total |\n|---|---|---|---|---|\n")
	for _, group := range groups {
		page.WriteString(counts[group].line(group))
	}
	page.WriteString(total.line("all"))
	list(&page, "Failed", groups, failed)
	list(&page, "Left out by the suite itself", groups, skipped)
	_, err := io.WriteString(out, page.String())
	return err
}

// list writes a chapter with the lines of each group, sorted; nothing if there are none.
func list(page *strings.Builder, title string, groups []string, lines map[string][]string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(page, "\n## %s\n", title)
	for _, group := range groups {
		if len(lines[group]) == 0 {
			continue
		}
		slices.Sort(lines[group])
		fmt.Fprintf(page, "\n### %s\n\n%s", group, strings.Join(lines[group], ""))
	}
}

var tag = regexp.MustCompile(` *\[(Conformance|NodeConformance|LinuxOnly|Serial|Slow|Disruptive)\]`)

// split is the group of a test ("node") and what it tests.
func split(name string) (group, rest string) {
	name = tag.ReplaceAllString(name, "")
	if group, rest, found := strings.Cut(name, "] "); found {
		return strings.TrimPrefix(group, "[sig-"), rest
	}
	return "other", name
}

// reason is a failure in a line: the message without the objects that the suite prints after it.
func reason(spec types.SpecReport) string {
	message := condensed(spec.Failure.Message)
	if spec.State.Is(types.SpecStatePanicked) {
		message += ": " + condensed(spec.Failure.ForwardedPanic)
	}
	if spec.State.Is(types.SpecStateTimedout) {
		message = "longer than the limit"
		if also := spec.Failure.AdditionalFailure; also != nil {
			_, said, _ := strings.Cut(also.Failure.Message, "before it exited:")
			message += ": " + condensed(said)
		}
	}
	if characters := []rune(message); len(characters) > longestReason {
		message = string(characters[:longestReason]) + "…"
	}
	return message
}

var (
	// Where the suite begins to print an object, as Go, JSON or YAML.
	object = regexp.MustCompile(`^(\{|(apiVersion|conditions|metadata):)|&v\d\w*\.`)
	// The type and address that gomega prints before a value.
	kind = regexp.MustCompile(`<[*\[\]a-zA-Z0-9_.]+( \| (len|cap|0x)[^>]*)?>: ?`)
	// What a page in Markdown would take for markup.
	markup = regexp.MustCompile(`[<>|*_]`)
)

func condensed(message string) string {
	var kept []string
	for line := range strings.Lines(message) {
		line = strings.TrimSpace(kind.ReplaceAllString(line, ""))
		begins := object.FindStringIndex(line)
		if begins != nil {
			line = strings.TrimRight(line[:begins[0]], " (")
		}
		if line != "" {
			kept = append(kept, line)
		}
		if begins != nil {
			break
		}
	}
	return markup.ReplaceAllString(strings.Join(kept, " "), `\$0`)
}
