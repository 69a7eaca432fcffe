package docs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/internal/pages"
)

const root = "../.."

// TestMain reads the variable that stands for the repository's files, which lie
// outside of this module: a result is not taken from the cache when they have
// changed.
func TestMain(m *testing.M) {
	os.Getenv("HEADGATE_TEST_REPOSITORY")
	os.Exit(m.Run())
}

func all(t *testing.T) []pages.Page {
	t.Helper()
	all, err := pages.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// spoilt are pages that are not there, by their paths.
func spoilt(t *testing.T, texts map[string]string) (dir string, all []pages.Page) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range texts {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all, err := pages.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, all
}

// want checks that there are just these problems, by a part of each, in any
// order.
func want(t *testing.T, problems []error, parts ...string) {
	t.Helper()
	text := ""
	if err := errors.Join(problems...); err != nil {
		text = err.Error()
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not among the problems", part)
		}
	}
	if len(problems) != len(parts) {
		t.Errorf("there are %d problems, want %d:\n%s", len(problems), len(parts), text)
	}
}

func targets(t *testing.T) (made, ci []string) {
	t.Helper()
	made, err := Makefile(root)
	if err != nil {
		t.Fatal(err)
	}
	if ci, err = CI(root); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(made, "test") || !slices.Contains(ci, "test") {
		t.Fatalf("the Makefile has %q, and .ci/run runs %q", made, ci)
	}
	return made, ci
}

func TestOfEveryBlockItIsKnownWhetherAndWhereItRuns(t *testing.T) {
	want(t, Kinds(all(t)))
	_, wrong := spoilt(t, map[string]string{"a.md": strings.ReplaceAll(`
'''sh somewhere
x
'''

'''bash
x
'''

'''
curl http://127.0.0.1
'''

'''
A=b bin/promtest run x
'''

'''yaml a/b.yaml
x: y
'''

'''yaml b.yaml
x: y
'''

'''
a drawing
'''
`, "'''", "```")})
	want(t, Kinds(wrong), `a.md:2: commands that run "somewhere"`, `a.md:6: the language "bash"`,
		"a.md:10: commands in a block", "a.md:14: commands in a block", `a.md:18: the file "a/b.yaml"`)
}

func TestGoldmarkSeesTheSameBlocks(t *testing.T) {
	for _, p := range all(t) {
		var got []string
		for _, b := range p.Blocks {
			got = append(got, strings.TrimSpace(b.Language+" "+b.Word))
		}
		if diff := cmp.Diff(understand(p.Text).fences, got); diff != "" {
			t.Errorf("%s: %s", p.Path, diff)
		}
	}
}

func TestEveryTargetThatAPageNamesIsThere(t *testing.T) {
	made, ci := targets(t)
	want(t, Unmakable(all(t), made, ci))
	_, wrong := spoilt(t, map[string]string{"a.md": "`make tea`, `make test`, and he would make coffee\n\n```sh\nmake cake\n```\n"})
	want(t, Unmakable(wrong, made, ci), "make tea", "make cake")
}

func TestABlockOfTargetsAloneIsRunWhereTheyAre(t *testing.T) {
	ci := []string{"test", "e2e"}
	for _, c := range []struct {
		text string
		want bool
	}{
		{"make test\n", true},
		{"make e2e RUN='^a$'\n", true},
		{"# all of it\nmake test # some minutes\n\nmake demo\n", true},
		{"make build\n", false}, // nobody else does
		{"make test\nmake build\n", false},
		{"make test && rm -r /\n", false},
		{"make test\ncurl x\n", false},
		{"make\n", false},
		{"", false},
	} {
		if got := RunElsewhere(pages.Block{Language: "sh", Text: c.text}, ci); got != c.want {
			t.Errorf("%q is run elsewhere: %v, want %v", c.text, got, c.want)
		}
	}
}

func TestEveryLinkLeadsSomewhereAndEveryPageOfDocsIsReached(t *testing.T) {
	want(t, Links(root, all(t)))
	dir, wrong := spoilt(t, map[string]string{
		"README.md": "# Top\n\n[a](docs/a.md#the-one-it-is-of) [b](docs/a.md#none) [c](docs/none.md) ![d](docs/d.svg) [e](../e.md)" +
			" [f](https://example.com/x#y) [g](#top) [h](#bottom) [i](https://github.com/headgate/headgate/blob/main/docs/none.md) [j](docs)\n\n```\n[k](none.md)\n```\n",
		"docs/a.md":    "## The one: it is `of`\n\n[b](b.md)\n## Twice\n## Twice\n",
		"docs/b.md":    "[c](a.md#twice-1) [d](a.md#twice-2)\n",
		"docs/lost.md": "x\n",
	})
	want(t, Links(dir, wrong), `"docs/a.md#none"`, `"docs/none.md": there is no docs/none.md`, `"docs/d.svg"`, `"../e.md": it leaves`,
		`"#bottom"`, `blob/main/docs/none.md": there is no`, `"a.md#twice-2"`, "docs/lost.md: no way leads here")
}

func TestEveryTableOfFiguresHasTheCommandThatMeasuresItBesideIt(t *testing.T) {
	want(t, Unmeasured(all(t)))
	_, wrong := spoilt(t, map[string]string{
		"a.md": "# A\n\n## Held\n\n`make compare` measures:\n\n| a | b |\n|---|---|\n| x | 99.8 % |\n| y | 1,200 items/s |\n\n" +
			"## Not held\n\n| c | d |\n|---|---|\n| x | 12 ms |\n| y | 13 ms |\n\n" +
			"## No figures\n\n| e | f |\n|---|---|\n| 1 | `5s` |\n| two | `6s` |\n",
		"b.md": "# B\n\nAll by `go test -bench Tick ./x`.\n\n## Held too\n\n| g | h |\n|---|---|\n| x | 1.5 |\n| y | 2 |\n",
	})
	want(t, Unmeasured(wrong), `a.md: "Not held": the table " c d"`)
}

// pageLimit is how long the commands of one page may take.
const pageLimit = 6 * time.Minute

func TestTheCommandsOfThePagesRun(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds programs")
	}
	_, ci := targets(t)
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-C", root, "-trimpath", "-o", bin, "./cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	// As a user has it: our programs, and no settings of whoever runs the tests.
	environ := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "HEADGATE_") || strings.HasPrefix(v, "MDP_FB_") || strings.HasPrefix(v, "OTEL_")
	})
	environ = append(environ, "PATH="+bin+":"+os.Getenv("PATH"), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	for _, p := range all(t) {
		var own []pages.Block
		commands := false
		for _, b := range p.Blocks {
			here := b.Commands(pages.Here) && !RunElsewhere(b, ci)
			if here || b.File() {
				own = append(own, b)
			}
			commands = commands || here
		}
		if !commands {
			continue
		}
		t.Run(p.Path, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), pageLimit)
			defer cancel()
			dir := t.TempDir()
			if err := pages.Copy(root, dir); err != nil {
				t.Fatal(err)
			}
			outcomes, err := pages.Session{Dir: dir, Environ: environ}.Run(ctx, own)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range outcomes {
				t.Logf("%v\n%s", o.Block, o.Output)
				if o.Err != nil {
					t.Errorf("%v: %v\n%s\n%s", o.Block, o.Err, o.Text, o.Output)
				}
			}
		})
	}
}
