package settings

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

//go:generate go test -run TestTheReadmeListsTheSettings -update

var update = flag.Bool("update", false, "write the settings into the README")

func TestTheReadmeListsTheSettings(t *testing.T) {
	const (
		readme = "../README.md"
		begin  = "<!-- settings: begin (written by \"make docs\") -->\n"
		end    = "<!-- settings: end -->"
	)
	data, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(data), begin)
	got, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("%s has no place between %q and %q", readme, begin, end)
	}
	var want strings.Builder
	for _, section := range Sections() {
		want.WriteString("\n### " + section.Title + "\n\n" + Markdown(section.Variables))
	}
	want.WriteString("\n")
	if *update {
		if err := os.WriteFile(readme, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want.String(), got); diff != "" {
		t.Errorf("the README's settings are stale, run \"make docs\":\n%s", diff)
	}
}
