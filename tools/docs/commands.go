// Package docs checks the repository's pages.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/headgate/headgate/internal/pages"
)

// shown are the languages of blocks that hold no commands.
var shown = []string{"", "json", "yaml", "promql", "python", "go", "text", "csv", "ini", "openmetrics"}

// ByHand are targets of the Makefile that stand in pages and that .ci/run does
// not run, each with the reason.
var ByHand = map[string]string{
	"demo":        "it lasts until somebody ends it; dashboards-check runs the same loop",
	"smoke":       "dashboards-check is the same run, with checks before its end",
	"chaos":       "it breaks things for minutes and wants the machine for itself",
	"bench":       "its figures say something only on a machine that does nothing else",
	"compare":     "three minutes of the real loop, of which the figures are wanted and not the exit status",
	"simulate":    "it writes docs/simulation.md, which the tests of promtest hold to what it would write",
	"screenshots": "it takes pictures, which somebody has to look at",
}

// Kinds reports the blocks of which it is not known what becomes of them.
func Kinds(all []pages.Page) (problems []error) {
	for _, p := range all {
		for _, b := range p.Blocks {
			switch {
			case b.Language == "sh":
				if !slices.Contains([]string{pages.Here, pages.Loop, pages.Cluster}, b.Word) {
					problems = append(problems, fmt.Errorf("%v: commands that run %q; want nothing after sh, or loop, or cluster", b, b.Word))
				}
			case !slices.Contains(shown, b.Language):
				problems = append(problems, fmt.Errorf("%v: the language %q; want sh for commands, or one of %q", b, b.Language, shown[1:]))
			case begins.MatchString(b.Text):
				problems = append(problems, fmt.Errorf("%v: commands in a block that is not run; want sh, sh loop or sh cluster", b))
			case b.File() && b.Word != filepath.Base(b.Word):
				problems = append(problems, fmt.Errorf("%v: the file %q; want a name without a folder", b, b.Word))
			}
		}
	}
	return problems
}

// begins finds that a block begins with one of the commands that our pages use,
// perhaps after a prompt or variables.
var begins = regexp.MustCompile(`^(\$ )?([A-Z_]+=\S+ )*(sudo |bin/)?(curl|go|make|kubectl|helm|git|docker|export|openssl|python3?|controller|pipeline|external-scaler|promtest|promtool|prometheus|bench|chaos|e2e|demo)\s`)

// target finds a command of make and its target. Variables may stand before and
// behind it.
var target = regexp.MustCompile(`(?m)^\s*make( +[a-z][a-z0-9-]*)?( +[A-Z_]+=\S+)*\s*(#.*)?$`)

// Targets returns the targets of a block that holds nothing but commands of
// make, and whether it is one.
func Targets(b pages.Block) (targets []string, all bool) {
	for line := range strings.Lines(b.Text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		found := target.FindStringSubmatch(line)
		if found == nil {
			return nil, false
		}
		targets = append(targets, strings.TrimSpace(found[1]))
	}
	return targets, len(targets) > 0
}

// RunElsewhere reports whether a block holds nothing but targets that .ci/run
// runs, or somebody by hand.
func RunElsewhere(b pages.Block, ci []string) bool {
	targets, all := Targets(b)
	return all && !slices.ContainsFunc(targets, func(t string) bool { return !slices.Contains(ci, t) && ByHand[t] == "" })
}

// CI returns the targets that .ci/run runs.
func CI(root string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(root, ".ci", "run"))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, found := range target.FindAllStringSubmatch(string(data), -1) {
		all = append(all, strings.TrimSpace(found[1]))
	}
	return all, nil
}

// Makefile returns the targets that there are.
func Makefile(root string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, found := range regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):.*## `).FindAllStringSubmatch(string(data), -1) {
		all = append(all, found[1])
	}
	return all, nil
}

// mentioned finds a target in a page's text.
var mentioned = regexp.MustCompile("(?m)(?:`|^)make ([a-z][a-z0-9-]*)\\b")

// Unmakable reports targets that pages name and the Makefile has not, and
// reasons that are not needed.
func Unmakable(all []pages.Page, made, ci []string) (problems []error) {
	for _, p := range all {
		for _, found := range mentioned.FindAllStringSubmatch(p.Text, -1) {
			if !slices.Contains(made, found[1]) {
				problems = append(problems, fmt.Errorf("%s: make %s: there is no such target", p.Path, found[1]))
			}
		}
	}
	for name := range ByHand {
		if !slices.Contains(made, name) || slices.Contains(ci, name) {
			problems = append(problems, fmt.Errorf("make %s is no target that is run by hand alone", name))
		}
	}
	return problems
}
