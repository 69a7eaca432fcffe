// Package docs holds the pages to what they name.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// found is all that a pattern finds in the files of a folder, by its group.
func found(t *testing.T, root, suffix string, pattern *regexp.Regexp) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "bin") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, suffix) {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, match := range pattern.FindAllStringSubmatch(string(data), -1) {
			names[match[1]] = true
		}
		return nil
	})
	if err != nil || len(names) == 0 {
		t.Fatalf("nothing is found: %v", err)
	}
	return names
}

var named = regexp.MustCompile("`([^`]+)`")

func TestWhatThePageOnReliabilityNamesExists(t *testing.T) {
	tests := found(t, "..", "_test.go", regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`))
	cases := found(t, "../chaos", "cases.go", regexp.MustCompile(`\{Name: "([^"]+)"`))
	page, err := os.ReadFile("reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range named.FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(match[1], "Test") && !tests[match[1]] {
			t.Errorf("there is no test %s", match[1])
		}
	}
	_, table, _ := strings.Cut(string(page), "<!-- claims: begin -->")
	table, _, _ = strings.Cut(table, "<!-- claims: end -->")
	told := map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| what") {
			continue
		}
		for _, column := range cells[3:5] {
			if !named.MatchString(column) {
				t.Errorf("a row without evidence: %s", line)
			}
		}
		for _, match := range named.FindAllStringSubmatch(cells[3], -1) {
			told[match[1]] = true
			if !cases[match[1]] {
				t.Errorf("there is no chaos case %s", match[1])
			}
		}
	}
	var untold []string
	for name := range cases {
		if !told[name] {
			untold = append(untold, name)
		}
	}
	if slices.Sort(untold); len(untold) > 0 {
		t.Errorf("the page does not tell of the chaos cases %v", untold)
	}
}

func TestWhatThePageOnSecurityNamesExists(t *testing.T) {
	tests := found(t, "..", "_test.go", regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`))
	page, err := os.ReadFile("../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "<!-- threats: begin -->")
	table, _, _ = strings.Cut(table, "<!-- threats: end -->")
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 2 || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| who | what") {
			continue
		}
		rows++
		if len(cells) != 7 || strings.TrimSpace(cells[5]) == "" {
			t.Errorf("a row of another form, or one that does not say what is left: %s", line)
			continue
		}
		named := named.FindAllStringSubmatch(cells[4], -1)
		if len(named) == 0 {
			t.Errorf("a row that no test holds: %s", line)
		}
		for _, match := range named {
			if !tests[match[1]] {
				t.Errorf("there is no test %s", match[1])
			}
		}
	}
	if rows < 10 {
		t.Errorf("%d threats are told", rows)
	}
}
