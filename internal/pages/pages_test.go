package pages_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/internal/pages"
)

// written makes a repository of files by their paths.
func written(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestBlocksAreReadWithWhatTheyAre(t *testing.T) {
	root := written(t, map[string]string{
		"README.md": "# A\n\n```sh\na\nb\n```\n\n- in a list:\n\n  ```sh loop\n  if c; then\n    d\n  fi\n  ```\n\n````\n```sh\nnone\n```\n````\n",
		"docs/a.md": "```yaml job.yaml\nx: 1\n```\n\n```json\n{}\n```\n",
		// None of these is a page.
		"CHANGELOG.md": "```sh\nx\n```\n", "a/testdata/b.md": "```sh\nx\n```\n", "bin/c.md": "```sh\nx\n```\n", "d.txt": "```sh\nx\n```\n",
	})
	all, err := pages.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []pages.Block
	for _, p := range all {
		got = append(got, p.Blocks...)
	}
	want := []pages.Block{
		{Page: "README.md", Line: 3, Language: "sh", Text: "a\nb\n"},
		{Page: "README.md", Line: 10, Language: "sh", Word: "loop", Text: "if c; then\n  d\nfi\n"},
		{Page: "README.md", Line: 16, Text: "```sh\nnone\n```\n"},
		{Page: "docs/a.md", Line: 1, Language: "yaml", Word: "job.yaml", Text: "x: 1\n"},
		{Page: "docs/a.md", Line: 5, Language: "json", Text: "{}\n"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestABlockThatIsNotClosedIsAnError(t *testing.T) {
	_, err := pages.Read(written(t, map[string]string{"a.md": "\n```sh\na\n"}))
	if err == nil || !strings.Contains(err.Error(), "a.md:2: the block is not closed") {
		t.Errorf("got %v", err)
	}
}

func TestAFolderWithoutPagesIsAnError(t *testing.T) {
	if _, err := pages.Read(t.TempDir()); err == nil {
		t.Error("an empty folder was read")
	}
}

func block(text string) pages.Block { return pages.Block{Page: "a.md", Language: "sh", Text: text} }

func TestTheCommandsOfAPageAreOneSession(t *testing.T) {
	s := pages.Session{Dir: t.TempDir(), Environ: []string{"PATH=" + os.Getenv("PATH"), "WHO=ann"}, Stage: "GREETING=hello; echo staged",
		Edit: func(text string) string { return strings.ReplaceAll(text, "PLACE", "here") }}
	outcomes, err := s.Run(t.Context(), []pages.Block{
		{Page: "a.md", Language: "yaml", Word: "b.yaml", Text: "x: PLACE\n"},
		block("WHO=\"$GREETING $WHO\"\ncd .\n"),
		block("echo \"$WHO\"; cat b.yaml; echo trouble >&2"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"", "hello ann\nx: here\ntrouble\n"}
	if len(outcomes) != 2 || outcomes[0].Output != want[0] || outcomes[1].Output != want[1] || outcomes[0].Err != nil || outcomes[1].Err != nil {
		t.Errorf("got %+v, want the outputs %q", outcomes, want)
	}
}

func TestAfterABlockThatFailsNoneRuns(t *testing.T) {
	s := pages.Session{Dir: t.TempDir(), Environ: os.Environ()}
	outcomes, err := s.Run(t.Context(), []pages.Block{block("echo a"), block("echo b\nfalse | cat\necho c"), block("echo d")})
	if err != nil {
		t.Fatal(err)
	}
	if outcomes[0].Err != nil || outcomes[1].Err == nil || outcomes[1].Output != "b\n" || !errors.Is(outcomes[2].Err, pages.ErrNotRun) {
		t.Errorf("got %+v", outcomes)
	}
	for _, wrong := range []string{"echo \"$NOT_SET\"", "no-such-command", "if"} {
		outcomes, err := s.Run(t.Context(), []pages.Block{block(wrong)})
		if err == nil && outcomes[0].Err == nil {
			t.Errorf("%q passed", wrong)
		}
	}
}

func TestWhatIsLeftInTheBackgroundEndsWithTheSession(t *testing.T) {
	dir := t.TempDir()
	s := pages.Session{Dir: dir, Environ: os.Environ()}
	begin := time.Now()
	outcomes, err := s.Run(t.Context(), []pages.Block{block("(trap 'touch ended; exit' TERM; touch begun; while :; do sleep 0.05; done) &\nuntil [ -e begun ]; do sleep 0.05; done")})
	if err != nil || outcomes[0].Err != nil {
		t.Fatal(outcomes, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ended")); err != nil || time.Since(begin) > 30*time.Second {
		t.Errorf("the background was not told to end, or not waited for: %v after %v", err, time.Since(begin))
	}
}

func TestACopyHasTheFilesAndNotWhatWasBuilt(t *testing.T) {
	root := written(t, map[string]string{"a/b.txt": "b", "bin/c": "c", ".git/d": "d", "tool": "#!/bin/sh\necho ran\n"})
	if err := os.Chmod(filepath.Join(root, "tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := pages.Copy(root, to); err != nil {
		t.Fatal(err)
	}
	s := pages.Session{Dir: to, Environ: os.Environ()}
	outcomes, err := s.Run(t.Context(), []pages.Block{block("./tool; cat a/b.txt; test ! -e bin; test ! -e .git")})
	if err != nil || outcomes[0].Err != nil || outcomes[0].Output != "ran\nb" {
		t.Errorf("got %+v, %v", outcomes, err)
	}
}
