package docs

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"

	"github.com/headgate/headgate/internal/pages"
)

// reader understands what GitHub's pages have.
var reader = goldmark.New(goldmark.WithExtensions(extension.GFM))

// page is one as Markdown has it.
type page struct {
	anchors []string
	links   []string // of links and pictures
	fences  []string // the words after each opening fence
}

// understand reads a page. Anchors are made of the headings as GitHub makes
// them.
func understand(source string) page {
	var p page
	data := []byte(source)
	taken := map[string]int{}
	_ = ast.Walk(reader.Parser().Parse(text.NewReader(data)), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			name := anchor(plain(n, data))
			if again := taken[name]; again > 0 {
				p.anchors = append(p.anchors, fmt.Sprintf("%s-%d", name, again))
			} else {
				p.anchors = append(p.anchors, name)
			}
			taken[name]++
		case *ast.Link:
			p.links = append(p.links, string(n.Destination))
		case *ast.Image:
			p.links = append(p.links, string(n.Destination))
		case *ast.FencedCodeBlock:
			words := ""
			if n.Info != nil {
				words = string(n.Info.Segment.Value(data))
			}
			p.fences = append(p.fences, words)
		}
		return ast.WalkContinue, nil
	})
	return p
}

// plain is a node's text without its marks.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, is := n.(*ast.Text); is && entering {
			b.Write(t.Segment.Value(source))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

var noAnchor = regexp.MustCompile(`[^\p{L}\p{N}\p{M}_\- ]`)

// anchor is how GitHub names a heading.
func anchor(heading string) string {
	return strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// own is where GitHub shows our files.
const own = "https://github.com/headgate/headgate/blob/main/"

// Links reports links of pages that lead nowhere in the repository, links that
// leave it, and pages in docs that nobody comes to from README.md.
func Links(root string, all []pages.Page) (problems []error) {
	read := map[string]page{}
	for _, p := range all {
		read[p.Path] = understand(p.Text)
	}
	reached := map[string]bool{}
	var follow func(name string)
	follow = func(name string) {
		if _, is := read[name]; !is || reached[name] {
			return
		}
		reached[name] = true
		for _, link := range read[name].links {
			follow(destination(name, link))
		}
	}
	follow("README.md")
	for _, p := range all {
		for _, link := range read[p.Path].links {
			if err := leads(root, read, p.Path, link); err != nil {
				problems = append(problems, fmt.Errorf("%s: the link %q: %w", p.Path, link, err))
			}
		}
		if strings.HasPrefix(p.Path, "docs/") && !reached[p.Path] {
			problems = append(problems, fmt.Errorf("%s: no way leads here from README.md", p.Path))
		}
	}
	return problems
}

// destination is the path of the file that a link of a page leads to; empty
// where that is not one of ours.
func destination(from, link string) string {
	link, _, _ = strings.Cut(link, "#")
	if rest, is := strings.CutPrefix(link, own); is {
		return rest
	}
	if strings.Contains(link, ":") {
		return ""
	}
	if link == "" {
		return from
	}
	name, err := url.PathUnescape(link)
	if err != nil {
		return ""
	}
	return path.Join(path.Dir(from), name)
}

// leads reports why a link leads nowhere.
func leads(root string, read map[string]page, from, link string) error {
	if u, err := url.Parse(link); err != nil {
		return err
	} else if u.Scheme != "" && !strings.HasPrefix(link, own) {
		return nil // to elsewhere
	}
	name := destination(from, link)
	if name == ".." || strings.HasPrefix(name, "../") {
		return fmt.Errorf("it leaves the repository")
	}
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err != nil {
		return fmt.Errorf("there is no %s", name)
	}
	_, fragment, has := strings.Cut(link, "#")
	if !has {
		return nil
	}
	to, is := read[name]
	if !is {
		return fmt.Errorf("%s is no page and has no headings", name)
	}
	if !slices.Contains(to.anchors, fragment) {
		return fmt.Errorf("%s has no heading %q, only %q", name, fragment, to.anchors)
	}
	return nil
}
