package job

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/headgate/headgate/settings"
)

// Section is a part of the job file with keys of its own.
type Section struct {
	Path string // where it stands, such as providers.<provider>; empty for the top
	Help string // what it is
	Keys []settings.Variable
}

// Sections lists all keys of the job file. Of each, Name is the key, and
// Default, Type, Range and Help are as in settings.Variable.
func Sections() []Section {
	keys := func(of any) []settings.Variable {
		all := settings.Variables(of)
		must := required(reflect.TypeOf(of))
		for i, v := range all {
			all[i].Name = Key(v)
			if slices.Contains(must, all[i].Name) {
				all[i].Help += "; must be given"
			}
		}
		return all
	}
	sections := []Section{
		{"", "the job", keys(Top{})},
		{"providers.<provider>", "a source of items with a rate budget", keys(Provider{})},
		{"feedback", "how the write queue's level throttles a provider within the process", keys(settings.Feedback{})},
		{"metrics", "the pipeline's HTTP server", keys(Metrics{})},
	}
	for _, k := range Kinds() {
		sections = append(sections, Section{
			Path: "dag.nodes.<node>, type " + k.Type,
			Help: fmt.Sprintf("%s: %s", k.Role, k.Help),
			Keys: keys(reflect.ValueOf(k.New()).Elem().Interface()),
		})
	}
	return sections
}

// WriteUsage lists all keys for --help.
func WriteUsage(w io.Writer) error {
	for _, s := range Sections() {
		title := s.Path
		if title == "" {
			title = "at the top"
		}
		if _, err := fmt.Fprintf(w, "\n%s (%s)\n", title, s.Help); err != nil {
			return fmt.Errorf("write the usage: %w", err)
		}
		if err := settings.WriteUsage(w, s.Keys); err != nil {
			return err
		}
	}
	return nil
}

// Markdown is the same list as tables, as the docs show it.
func Markdown() string {
	var b strings.Builder
	for _, s := range Sections() {
		title := "`" + s.Path + "`"
		if s.Path == "" {
			title = "At the top"
		}
		fmt.Fprintf(&b, "**%s**: %s\n\n%s\n", title, s.Help, settings.Markdown(s.Keys))
	}
	return b.String()
}
