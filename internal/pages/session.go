//go:build unix

package pages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Session is one shell in which commands of pages run.
type Session struct {
	Dir     string   // in which it begins
	Environ []string // all of it
	Stage   string   // commands before the first, of which nothing is told

	// Edit changes a block's text before it is run or written; nil changes
	// nothing.
	Edit func(text string) string
}

// Outcome is what became of a block's commands.
type Outcome struct {
	Block
	Output string // of standard output and error, of those that the block waited for
	Err    error  // its exit status, or that it did not get its turn
}

// ErrNotRun is the error of a block that stands behind one that failed.
var ErrNotRun = errors.New("was not run: a block before it failed")

// begin is written before each block's output.
const begin = "\x1e\n"

// endLimit is how long what a session left in the background may take to end.
const endLimit = 10 * time.Second

// Run writes the files among the blocks, then runs the commands, all in one
// shell that ends at the first failure. What they leave in the background ends
// with it. The error is of the session itself; how the blocks fared is in the
// outcomes, one for each that is not a file.
func (s Session) Run(ctx context.Context, blocks []Block) (outcomes []Outcome, err error) {
	edit := s.Edit
	if edit == nil {
		edit = func(text string) string { return text }
	}
	var script strings.Builder
	// What is in the background is told to end, and waited for.
	script.WriteString("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || :; wait' EXIT\n" + s.Stage + "\n")
	for _, b := range blocks {
		if b.File() {
			if err := os.WriteFile(filepath.Join(s.Dir, b.Word), []byte(edit(b.Text)), 0o644); err != nil {
				return nil, fmt.Errorf("%v: write the file: %w", b, err)
			}
			continue
		}
		fmt.Fprintf(&script, "printf '\\x1e\\n'\n%s\n", edit(b.Text))
		outcomes = append(outcomes, Outcome{Block: b, Err: ErrNotRun})
	}
	output, err := os.CreateTemp("", "headgate-session-")
	if err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	defer os.Remove(output.Name())
	defer output.Close()

	c := exec.CommandContext(ctx, "bash", "-c", script.String())
	c.Dir, c.Env = s.Dir, s.Environ
	// Into a file, for what is in the background would keep a pipe open.
	c.Stdout, c.Stderr = output, output
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	c.WaitDelay = endLimit
	failed := c.Run()
	if c.Process != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // who is left, if anybody
	}
	said, err := os.ReadFile(output.Name())
	if err != nil {
		return nil, fmt.Errorf("read the output: %w", err)
	}
	parts := strings.Split(string(said), begin)
	if failed != nil && len(parts) == 1 {
		return nil, fmt.Errorf("begin the session: %w\n%s", failed, said)
	}
	for i, part := range parts[1:] {
		outcomes[i].Output, outcomes[i].Err = part, nil
	}
	if failed != nil {
		if ctx.Err() != nil {
			failed = context.Cause(ctx)
		}
		outcomes[len(parts)-2].Err = failed
	}
	return outcomes, nil
}

// Copy copies a repository into a folder, so that commands can do there what
// they like, without what was built in it.
func Copy(root, to string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		into := filepath.Join(to, name)
		switch {
		case entry.IsDir() && path != root && notOurs(entry.Name()):
			return filepath.SkipDir
		case entry.IsDir():
			return os.MkdirAll(into, 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(into, data, info.Mode().Perm())
	})
}
