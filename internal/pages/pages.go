// Package pages reads the repository's pages, and runs the commands that stand
// in them.
//
// Which commands are run where is said by the words after the opening fence:
//
//	sh           by the test of tools/docs, in a copy of the repository
//	sh loop      by "make dashboards-check", beside a loop that runs
//	sh cluster   by make e2e, on a real Kubernetes with kubectl and Helm
//
// The commands of one kind in a page are one session of a shell, from top to
// bottom. A file that they need is a block with its name behind its language,
// such as "yaml job.yaml".
package pages

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Page is one Markdown file.
type Page struct {
	Path   string // from the repository's root, with slashes
	Text   string
	Blocks []Block
}

// Block is what stands between two fences.
type Block struct {
	Page     string // path of the page
	Line     int    // of the opening fence, from 1
	Language string // first word after the fence; may be empty
	Word     string // what follows it: where commands run, or the name of a file
	Text     string // with the last line's end
}

// Where commands run: the words after "sh".
const (
	Here    = ""
	Loop    = "loop"
	Cluster = "cluster"
)

// Commands reports whether the block is to be run in that place.
func (b Block) Commands(where string) bool { return b.Language == "sh" && b.Word == where }

// File reports whether the block is a file that the page's commands need.
func (b Block) File() bool { return b.Language != "sh" && b.Word != "" }

// String says where the block is.
func (b Block) String() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

// Read returns all pages of a repository in the order of their paths. Test data
// and the CHANGELOG are none.
func Read(root string) ([]Page, error) {
	var all []Page
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (notOurs(entry.Name()) || entry.Name() == "testdata"):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".md" || entry.Name() == "CHANGELOG.md":
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		blocks, err := blocksOf(name, string(data))
		if err != nil {
			return err
		}
		all = append(all, Page{Path: name, Text: string(data), Blocks: blocks})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the pages: %w", err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("read the pages: there are none in %s", root)
	}
	return all, nil
}

// notOurs are the folders that hold what git, a build or npm has put there.
func notOurs(folder string) bool {
	return slices.Contains([]string{".git", ".cache", "bin", "node_modules"}, folder)
}

// blocksOf finds the blocks of a page. A fence is three backquotes or more, with
// as many or more to close it; it may be indented, as in a list, and its text is
// taken without that.
func blocksOf(page, text string) ([]Block, error) {
	var all []Block
	var open *Block
	var fence, indent string
	line := 0
	for l := range strings.Lines(text) {
		line++
		trimmed := strings.TrimSpace(l)
		ticks := trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, "`"))]
		switch {
		case open == nil && len(ticks) >= 3:
			language, word, _ := strings.Cut(strings.TrimSpace(trimmed[len(ticks):]), " ")
			open = &Block{Page: page, Line: line, Language: language, Word: strings.TrimSpace(word)}
			fence, indent = ticks, l[:strings.IndexByte(l, '`')]
		case open != nil && len(ticks) >= len(fence) && ticks == trimmed:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.Text += strings.TrimPrefix(l, indent)
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%v: the block is not closed", *open)
	}
	return all, nil
}
