package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is all that was measured.
type Report struct {
	Machine string
	Begun   time.Time
	parts   []part
}

type part struct {
	group group
	rows  []Row
}

func (r *Report) add(g group, rows []Row) { r.parts = append(r.parts, part{g, rows}) }

func (r *Report) rows() []Row {
	rows := []Row{}
	for _, p := range r.parts {
		rows = append(rows, p.rows...)
	}
	return rows
}

// holds reports whether every bar does.
func (r *Report) holds() bool {
	for _, row := range r.rows() {
		if !row.Holds {
			return false
		}
	}
	return true
}

// table is the rows for a terminal.
func (r *Report) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "row\tours\tpeer\tunit\tratio\tbar\tholds\tpeer is")
	for _, row := range r.rows() {
		fmt.Fprintf(w, "%s\t%v\t%v\t%s\t%v\t%s\t%s\t%s\n",
			row.Name, row.Ours, row.Peer, row.Unit, row.Ratio, row.Bar, yes(row.Holds), row.PeerName)
	}
	w.Flush()
	return b.String()
}

func yes(holds bool) string {
	if holds {
		return "yes"
	}
	return "NO"
}

// page is the rows as a page of the documentation.
func (r *Report) page() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Benchmarks

Written by `+"`make bench`"+`, on %s. Every row is measured against its peer in the same run, by turns; shown is the round whose ratio is the median. Figures of a machine that does other work too vary from run to run; ratios hardly do.

`, r.Machine)
	for _, p := range r.parts {
		fmt.Fprintf(&b, "## %s\n\n%s\n\n", strings.ToUpper(p.group.name[:1])+p.group.name[1:], p.group.about)
		fmt.Fprintln(&b, "| row | Headgate | peer | | unit | ratio | bar | holds |")
		fmt.Fprintln(&b, "|---|---|---|---|---|---|---|---|")
		var notes []string
		for _, row := range p.rows {
			fmt.Fprintf(&b, "| %s | %v | %v | %s | %s | %v | %s | %s |\n",
				row.Name, row.Ours, row.Peer, row.PeerName, row.Unit, row.Ratio, row.Bar, strings.ToLower(yes(row.Holds)))
			if row.note != "" {
				notes = append(notes, fmt.Sprintf("- %s: %s.", row.Name, row.note))
			}
		}
		fmt.Fprintln(&b)
		if len(notes) > 0 {
			fmt.Fprintf(&b, "%s\n\n", strings.Join(notes, "\n"))
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// machine names what it is measured on.
func machine() string {
	return fmt.Sprintf("%s, %d cores for Go, %s, %s/%s", processor(), runtime.GOMAXPROCS(0), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// processor is the processor's name, where the system tells it.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "an unnamed processor"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, found := strings.Cut(lines.Text(), ":"); found && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "an unnamed processor"
}
