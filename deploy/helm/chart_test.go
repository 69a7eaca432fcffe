// Package helm_test holds the chart's values, their schema and their
// documentation together.
package helm_test

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// schema is what of a JSON schema is looked at here.
type schema struct {
	Description string            `json:"description"`
	Properties  map[string]schema `json:"properties"`
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile("headgate/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readSchema(t *testing.T) schema {
	t.Helper()
	var s schema
	if err := json.Unmarshal(read(t, "values.schema.json"), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// values returns the default of each value that the schema has no parts of, by
// its path; one that is not in values.yaml, or not in the schema, is an error.
func values(t *testing.T, path string, s schema, at any) map[string]any {
	t.Helper()
	if len(s.Properties) == 0 {
		return map[string]any{path: at}
	}
	node, is := at.(map[string]any)
	if !is {
		t.Errorf("values.yaml has %v for %s, want a mapping", at, path)
		return nil
	}
	all := map[string]any{}
	for name := range node {
		if _, known := s.Properties[name]; !known {
			t.Errorf("the schema has no %s", join(path, name))
		}
	}
	for name, part := range s.Properties {
		if path == "" && name == "global" { // Helm's own
			continue
		}
		if _, has := node[name]; !has {
			t.Errorf("values.yaml has no %s", join(path, name))
			continue
		}
		maps.Copy(all, values(t, join(path, name), part, node[name]))
	}
	return all
}

func join(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

// find returns the part of the schema at a path.
func find(s schema, path string) schema {
	for name := range strings.SplitSeq(path, ".") {
		s = s.Properties[name]
	}
	return s
}

func TestTheReadmeHasEveryValueWithItsDefault(t *testing.T) {
	s := readSchema(t)
	var defaults any
	if err := yaml.Unmarshal(read(t, "values.yaml"), &defaults); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for path, value := range values(t, "", s, defaults) {
		text := find(s, path).Description
		if text == "" {
			t.Errorf("the schema does not describe %s", path)
		}
		want[path] = show(t, path, value) + "| " + text
	}

	_, table, begun := strings.Cut(string(read(t, "README.md")), "<!-- values: begin")
	table, _, ended := strings.Cut(table, "<!-- values: end")
	if !begun || !ended {
		t.Fatal("the table of values is not marked")
	}
	got := map[string]string{}
	for line := range strings.Lines(table) {
		line, isRow := strings.CutPrefix(strings.TrimSuffix(strings.TrimSpace(line), " |"), "| `")
		path, rest, hasCells := strings.Cut(line, "` | ")
		if isRow && hasCells {
			got[path] = rest
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-chart +README\n%s", diff)
	}
}

// show is a default as the README has it.
func show(t *testing.T, path string, value any) string {
	t.Helper()
	if path == "pipeline.job" || path == "scaling.behavior" {
		return "see values.yaml "
	}
	text, is := value.(string)
	if !is {
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		text = string(data)
	}
	if text == "" {
		return ""
	}
	return "`" + text + "` "
}
