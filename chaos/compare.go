package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/headgate/headgate/internal/process"
)

// rival is what runs the loop or answers KEDA, Headgate or what one would have
// otherwise.
type rival struct {
	name    string // in the names of cases, after an @
	title   string
	applies func(Case) bool
	change  func(*Setup)
}

const depthQuery = `coordinator_queue_depth{coordinator_id="` + coordinatorID + `"}`

// rivals are all of them, Headgate first.
func rivals() []rival {
	keda := func(more map[string]string) func(*Setup) {
		return func(s *Setup) {
			s.KEDA = map[string]string{"query": depthQuery, "threshold": "100", "timeout": "800ms"}
			maps.Copy(s.KEDA, more)
		}
	}
	forScaler := func(c Case) bool { return c.Scaler }
	return []rival{
		{"headgate", "Headgate", func(c Case) bool { return c.Loop || c.Scaler }, func(*Setup) {}},
		{"naive", "a loop without leases", func(c Case) bool { return c.Loop }, func(s *Setup) { s.Naive = true }},
		{"keda", "KEDA's prometheus trigger", forScaler, keda(nil)},
		{"strict", "the same, `ignoreNullValues: false`", forScaler, keda(map[string]string{"ignoreNullValues": "false"})},
	}
}

// compared are the cases that apply, once for each rival.
func compared(chosen []Case) (all []Case) {
	for _, c := range chosen {
		for _, r := range rivals() {
			if !r.applies(c) {
				continue
			}
			one := c
			one.Name += "@" + r.name
			one.Change = func(s *Setup) {
				if c.Change != nil {
					c.Change(s)
				}
				r.change(s)
			}
			all = append(all, one)
		}
	}
	return all
}

// comparison is the table of what held.
func comparison(chosen []Case, results map[string]result) string {
	var b strings.Builder
	b.WriteString("| case |")
	for _, r := range rivals() {
		fmt.Fprintf(&b, " %s |", r.title)
	}
	b.WriteString("\n|---" + strings.Repeat("|---", len(rivals())) + "|\n")
	for _, c := range chosen {
		if !c.Loop && !c.Scaler {
			continue
		}
		fmt.Fprintf(&b, "| `%s` |", c.Name)
		for _, r := range rivals() {
			cell := ""
			if got, ran := results[c.Name+"@"+r.name]; ran {
				cell = inShort(got.err)
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// figures are what differs from run to run in what an error says.
var figures = regexp.MustCompile(`, \d+(\.\d+)? s in$|\.\d{3,}`)

// inShort is the first thing that did not hold, without its details.
func inShort(err error) string {
	if err == nil {
		return "holds"
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	line, _, _ = strings.Cut(line, ": ")
	return strings.ReplaceAll(figures.ReplaceAllString(line, ""), "|", "/")
}

// compare runs the cases on all rivals. It passes when Headgate holds all of
// them. With a page the table is written into it.
func compare(ctx context.Context, dir string, chosen []Case, page string) (passed bool, err error) {
	results, err := runAll(ctx, dir, compared(chosen))
	if err != nil {
		return false, err
	}
	table := comparison(chosen, results)
	fmt.Print(table)
	if page != "" {
		err = writeBetween(page, "<!-- comparison: begin (written by \"make chaos BASELINE=true\") -->\n", "<!-- comparison: end -->", table)
	}
	held, ran := map[string]int{}, map[string]int{}
	for name, r := range results {
		_, rival, _ := strings.Cut(name, "@")
		ran[rival]++
		if r.err == nil {
			held[rival]++
		}
	}
	line, jsonErr := json.Marshal(map[string]any{"cases": ran, "held": held})
	fmt.Println(string(line))
	return held["headgate"] == ran["headgate"], errors.Join(err, jsonErr)
}

// writeBetween replaces what stands in a file between two lines.
func writeBetween(path, begin, end, text string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(data), begin)
	_, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		return fmt.Errorf("%s has no place for the table", path)
	}
	return os.WriteFile(path, []byte(before+begin+"\n"+text+"\n"+end+after), 0o644)
}

// naive is how the loop without leases is started, in the place of controller a.
func (w *World) naive() process.Spec {
	return process.Spec{Name: "naive", Binary: filepath.Join(filepath.Dir(w.bins.controller), "naive"), Log: w.dir, Args: []string{
		"-prometheus", "http://" + w.toPrometheus.address(), "-query", depthQuery,
		"-scale", "http://" + w.fromA.address() + "/v1/providers/" + provider + "/scale",
	}}
}

// startKEDA starts KEDA's own trigger in the place of the scaler.
func (w *World) startKEDA() error {
	metadata := maps.Clone(w.setup.KEDA)
	metadata["serverAddress"] = "http://" + w.toPrometheus.address()
	text, err := json.Marshal(metadata)
	if err != nil {
		return err
	}
	w.scaler, err = process.Start(process.Spec{
		Name: "keda", Binary: filepath.Join(filepath.Dir(w.bins.scaler), "serving"), Log: w.dir,
		Args: []string{"-listen", w.scalerAddress, "-metadata", string(text)},
	})
	return err
}
