package check

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/headgate/headgate/internal/pages"
)

// runbooks is the page that sets the stage for the others in its folder.
const runbooks = "docs/runbooks/README.md"

// silent finds commands that need not say anything: they set variables, or write
// into a file.
var silent = regexp.MustCompile(`^(export |cd )|> \S+\s*$`)

// Commands runs the commands of all pages of a repository that are marked "sh
// loop", those of each page in one shell and those of the runbooks after the ones
// of their index, and reports the ones that fail or say nothing. They begin in
// the session's folder.
func Commands(ctx context.Context, root string, s pages.Session) (lines []string, problems []error) {
	all, err := pages.Read(root)
	if err != nil {
		return nil, []error{err}
	}
	stage := ""
	for _, p := range all {
		for _, b := range p.Blocks {
			if p.Path == runbooks && b.Commands(pages.Loop) {
				stage += b.Text
			}
		}
	}
	ran, of := 0, 0
	for _, p := range all {
		var own []pages.Block
		commands := 0
		for _, b := range p.Blocks {
			if b.File() || b.Commands(pages.Loop) {
				own = append(own, b)
			}
			if b.Commands(pages.Loop) {
				commands++
			}
		}
		if commands == 0 {
			continue
		}
		s.Stage = ""
		if strings.HasPrefix(p.Path, "docs/runbooks/") && p.Path != runbooks {
			s.Stage = stage
		}
		outcomes, err := s.Run(ctx, own)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", p.Path, err))
		}
		for _, o := range outcomes {
			switch {
			case o.Err != nil:
				problems = append(problems, fmt.Errorf("%v: %s%s(%w)", o.Block, o.Text, o.Output, o.Err))
			case strings.TrimSpace(o.Output) == "" && !silent.MatchString(o.Text):
				problems = append(problems, fmt.Errorf("%v: %ssays nothing", o.Block, o.Text))
			}
		}
		ran, of = ran+commands, of+1
	}
	if ran == 0 {
		problems = append(problems, fmt.Errorf("no page in %s has commands for a loop", root))
	}
	return []string{fmt.Sprintf("%d blocks of commands of %d pages ran", ran, of)}, problems
}
