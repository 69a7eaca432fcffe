package docs

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/yuin/goldmark/ast"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"

	"github.com/headgate/headgate/internal/pages"
)

var (
	// figure is a cell with a number in it and nothing else but its unit.
	figure = regexp.MustCompile(`^[<>≤≥~±+−-]?\s?\d[\d,. ]*(\s?(%|[num µ]?s|min|h|x|×|[kMG]?i?B|(items|tokens|changes)?/s|(of|to)\s[\d,.]+\s?\S*))*$`)

	// measures is a command that measures something: one of ours that runs and
	// tells figures, or a benchmark or a test of Go.
	measures = regexp.MustCompile(`make (bench|compare|simulate|chaos|e2e|smoke|sizes|page-test|dashboards-check|demo)\b|go test [^\x60]*-(bench|run)\b|promtest (simulate|backtest|report|lint|run)\b|bin/(bench|chaos|e2e|demo)\b`)
)

// Unmeasured reports tables of figures without a command that measures them:
// neither in their section, nor before the page's first section, where a page
// says how all of its figures come about.
func Unmeasured(all []pages.Page) (problems []error) {
	for _, p := range all {
		data := []byte(p.Text)
		root := reader.Parser().Parse(text.NewReader(data))
		opening, section := strings.Builder{}, strings.Builder{}
		title, first := "", true
		var tables []string // heads of those of the section
		closeSection := func() {
			for _, head := range tables {
				if !measures.MatchString(opening.String()) && !measures.MatchString(section.String()) {
					problems = append(problems, fmt.Errorf("%s: %q: the table %q has figures, and no command beside it that measures them", p.Path, title, head))
				}
			}
			tables = nil
			section.Reset()
		}
		for n := root.FirstChild(); n != nil; n = n.NextSibling() {
			if h, is := n.(*ast.Heading); is && h.Level > 1 {
				closeSection()
				title, first = plain(h, data), false
				continue
			}
			into := &section
			if first {
				into = &opening
			}
			into.WriteString(source(n, data) + "\n")
			if t, is := n.(*extast.Table); is && figures(t, data) {
				tables = append(tables, source(t.FirstChild(), data))
			}
		}
		closeSection()
	}
	return problems
}

// figures reports whether a table has a column of figures: at least two rows,
// and a number in each that is not empty.
func figures(t *extast.Table, data []byte) bool {
	numbers, others := map[int]int{}, map[int]bool{}
	for row := t.FirstChild().NextSibling(); row != nil; row = row.NextSibling() {
		column := 0
		for cell := row.FirstChild(); cell != nil; cell = cell.NextSibling() {
			content := strings.TrimSpace(source(cell, data))
			switch {
			case strings.Contains(content, "`"):
				others[column] = true // a value to be set, not one that was found
			case figure.MatchString(strings.Trim(content, "*")):
				numbers[column]++
			case content != "" && content != "-" && content != "–":
				others[column] = true
			}
			column++
		}
	}
	for column, n := range numbers {
		if n >= 2 && !others[column] {
			return true
		}
	}
	return false
}

// source is what a node was made of.
func source(n ast.Node, data []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Text:
			b.Write(n.Segment.Value(data))
			if n.SoftLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.CodeSpan:
			b.WriteByte('`')
		case *extast.TableCell:
			b.WriteByte(' ')
		case *ast.FencedCodeBlock, *ast.CodeBlock:
			b.Write(n.Lines().Value(data))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}
