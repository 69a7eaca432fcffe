package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const root = "../.."

// TestMain reads the variable that holds a sum of the files outside of this
// module: Go's cache of test results does not see those.
func TestMain(m *testing.M) {
	os.Getenv("HEADGATE_TEST_FILES")
	os.Exit(m.Run())
}

func TestAllThatIsMadeIsAsItWouldBeMadeNow(t *testing.T) {
	files, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is stale, run \"make docs\" (-made +there):\n%s", name, cmp.Diff(string(want), string(got)))
		}
	}
}

func TestWhatIsWrittenIsWhatIsMade(t *testing.T) {
	dir := t.TempDir()
	source, err := os.ReadFile(filepath.Join(root, rulesFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, rulesFile)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, rulesFile), source, 0o644); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	if status := run(t.Context(), []string{"write", dir}, &stderr); status != 0 {
		t.Fatalf("status %d: %s", status, &stderr)
	}
	files, err := generate(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s was not written as it is made: %v", name, err)
		}
	}
}

func TestWrongArgumentsAreTold(t *testing.T) {
	for _, args := range [][]string{nil, {"write"}, {"read", "x"}, {"-x"}} {
		var stderr bytes.Buffer
		if status := run(t.Context(), args, &stderr); status != 2 || stderr.Len() == 0 {
			t.Errorf("%v: status %d, %q; want 2 and the usage", args, status, &stderr)
		}
	}
	var stderr bytes.Buffer
	if status := run(t.Context(), []string{"write", t.TempDir()}, &stderr); status != 1 || stderr.Len() == 0 {
		t.Errorf("a folder without rules: status %d, %q; want 1 and why", status, &stderr)
	}
}

func TestEveryDashboardIsInTheKustomization(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "deploy/grafana/kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var k struct {
		Maps []struct {
			Name  string   `yaml:"name"`
			Files []string `yaml:"files"`
		} `yaml:"configMapGenerator"`
	}
	if err := yaml.Unmarshal(data, &k); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, m := range k.Maps {
		for _, f := range m.Files {
			got["deploy/grafana/"+f] = true
			if f != "dashboards/"+m.Name+".json" {
				t.Errorf("%s holds %s", m.Name, f)
			}
		}
	}
	files, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for name := range files {
		if strings.HasPrefix(name, boards) {
			want[name] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dashboards (-made +in the kustomization):\n%s", diff)
	}
}
