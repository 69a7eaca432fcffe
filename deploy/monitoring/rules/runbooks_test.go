package rules_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func page(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(runbooks, name+".md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestEveryAlertHasARunbookAndEveryRunbookAnAlert(t *testing.T) {
	want := []string{"README"}
	for _, r := range parse(t).Alerts() {
		want = append(want, r.Alert)
	}
	paths, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, path := range paths {
		got = append(got, strings.TrimSuffix(filepath.Base(path), ".md"))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
}

func TestEveryRunbookTellsTheFourThingsAndTheSeverity(t *testing.T) {
	for _, r := range parse(t).Alerts() {
		text := page(t, r.Alert)
		if !strings.HasPrefix(text, "# "+r.Alert+"\n") {
			t.Errorf("%s: its page has another title", r.Alert)
		}
		if want := "Severity: " + r.Labels["severity"] + "."; !strings.Contains(text, want) {
			t.Errorf("%s: its page does not say %q", r.Alert, want)
		}
		sections := regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(text, -1)
		var got []string
		for _, s := range sections {
			got = append(got, s[1])
		}
		if diff := cmp.Diff([]string{"Meaning", "Impact", "Diagnosis", "Mitigation"}, got); diff != "" {
			t.Errorf("%s: sections (-want +got):\n%s", r.Alert, diff)
		}
		_, diagnosis, _ := strings.Cut(text, "## Diagnosis")
		if !strings.Contains(diagnosis, "\n```") {
			t.Errorf("%s: its page has no command to find the cause with", r.Alert)
		}
	}
}

func TestTheIndexListsEveryAlertWithItsSeverity(t *testing.T) {
	var want, got []string
	for _, r := range parse(t).Alerts() {
		want = append(want, fmt.Sprintf("%s %s.md %s", r.Alert, r.Alert, r.Labels["severity"]))
	}
	for _, row := range regexp.MustCompile(`(?m)^\| \[(\w+)\]\((.*?)\) \| (\w+) \|`).FindAllStringSubmatch(page(t, "README"), -1) {
		got = append(got, strings.Join(row[1:], " "))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}
