// Package rules reads the file of recording rules and alerts, and makes of it
// the object that prometheus-operator loads.
package rules

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// File is what a rule file of Prometheus holds.
type File struct {
	Groups []Group `yaml:"groups"`
}

// Group is a group of rules that are evaluated together.
type Group struct {
	Name  string `yaml:"name"`
	Rules []Rule `yaml:"rules"`
}

// Rule is a recording rule, which has Record, or an alert, which has Alert.
type Rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// Parse reads a rule file. A key that is not a field above is an error.
func Parse(source []byte) (File, error) {
	var f File
	decoder := yaml.NewDecoder(bytes.NewReader(source))
	decoder.KnownFields(true)
	if err := decoder.Decode(&f); err != nil {
		return File{}, fmt.Errorf("read the rules: %w", err)
	}
	return f, nil
}

// Alerts are the alerts of the file, in its order.
func (f File) Alerts() []Rule {
	return f.choose(func(r Rule) bool { return r.Alert != "" })
}

// Recorded are the names of the series that the file records.
func (f File) Recorded() []string {
	var names []string
	for _, r := range f.choose(func(r Rule) bool { return r.Record != "" }) {
		names = append(names, r.Record)
	}
	return names
}

func (f File) choose(is func(Rule) bool) []Rule {
	var chosen []Rule
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			if is(r) {
				chosen = append(chosen, r)
			}
		}
	}
	return chosen
}

const object = `# Made from headgate.rules.yaml by "make docs". For a Prometheus that
# prometheus-operator runs; its ruleSelector must choose these labels.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: headgate
  labels: {app.kubernetes.io/part-of: headgate}
spec:
`

// PrometheusRule is the rule file as an object of prometheus-operator. The text
// stays as it is, with its comments, so that the two can be compared.
func PrometheusRule(source []byte) ([]byte, error) {
	groups, err := Groups(source)
	if err != nil {
		return nil, err
	}
	out := strings.Builder{}
	out.WriteString(object)
	for line := range strings.Lines(groups) {
		if strings.TrimSpace(line) != "" {
			out.WriteString("  ")
		}
		out.WriteString(line)
	}
	return []byte(out.String()), nil
}

// Groups is the rule file without the comment at its head.
func Groups(source []byte) (string, error) {
	if _, err := Parse(source); err != nil {
		return "", err
	}
	text := string(source)
	at := strings.Index(text, "\ngroups:\n")
	if at < 0 {
		return "", errors.New(`read the rules: no line "groups:"`)
	}
	return text[at+1:], nil
}
