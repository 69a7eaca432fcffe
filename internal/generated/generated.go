// Package generated keeps the parts of the docs that are made from the code
// true: a test compares them, and with -update writes them anew.
package generated

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Flag registers -update with a test binary. It is called from a test package's
// variables, before the flags are parsed.
func Flag() *bool {
	return flag.Bool("update", false, "write the generated parts of the docs anew")
}

// Section compares what stands in a Markdown file between the comments
//
//	<!-- NAME: begin (written by "make docs") -->
//	<!-- NAME: end -->
//
// with what is wanted, or writes it there.
func Section(t testing.TB, path, name, want string, update bool) {
	t.Helper()
	begin := "<!-- " + name + ": begin (written by \"make docs\") -->\n"
	end := "<!-- " + name + ": end -->"
	between(t, path, begin, end, want, update)
}

// Block is Section for a file in which # begins a comment, such as YAML.
func Block(t testing.TB, path, name, want string, update bool) {
	t.Helper()
	between(t, path, "# "+name+": begin (written by \"make docs\")\n", "# "+name+": end\n", want, update)
}

func between(t testing.TB, path, begin, end, want string, update bool) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(data), begin)
	got, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("%s has no place between %q and %q", path, begin, end)
	}
	if update {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is stale, run \"make docs\":\n%s", path, diff)
	}
}
