// Package check finds what is wrong with dashboards, rules and queries in pages
// before anybody opens them: what Grafana would not load or would draw wrongly,
// what Prometheus cannot parse, series and labels that nobody exports.
package check

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/headgate/headgate/metrics"
)

// Names are the series that an expression may use, each with the labels that it
// has besides those of every scrape.
type Names map[string][]string

// scraped are the labels that a scrape puts on every series, in Kubernetes and
// elsewhere.
var scraped = []string{"__name__", "job", "instance", "namespace", "pod", "container", "service", "endpoint"}

// foreign are the series that others export and our dashboards, alerts and
// pages use.
var foreign = Names{
	// Prometheus itself.
	"up":     nil,
	"ALERTS": {"alertname", "alertstate", "severity"},

	// The Prometheus client library, in each of our processes.
	"process_cpu_seconds_total":     nil,
	"process_resident_memory_bytes": nil,

	// go-grpc-middleware, in the external scaler.
	"grpc_server_handled_total":           {"grpc_type", "grpc_service", "grpc_method", "grpc_code"},
	"grpc_server_handling_seconds_bucket": {"grpc_type", "grpc_service", "grpc_method", "le"},

	// KEDA 2.21's operator: pkg/metricscollector/prommetrics.go.
	"keda_scaler_detail_errors_total":     {"metric", "scaledObject", "scaler", "triggerIndex", "type"},
	"keda_scaler_metrics_latency_seconds": {"metric", "scaledObject", "scaler", "triggerIndex", "type"},

	// kube-state-metrics: docs/metrics/workload/horizontalpodautoscaler-metrics.md.
	"kube_horizontalpodautoscaler_status_current_replicas": {"horizontalpodautoscaler"},
}

// Known are all series that there are: those that Headgate exports, those of
// others, and the recorded ones, whose labels are not known.
func Known(recorded ...string) Names {
	all := Names{}
	for name, labels := range foreign {
		all[name] = labels
	}
	for _, s := range metrics.Catalog() {
		if s.Kind != metrics.Histogram {
			all[s.Name] = s.Labels
			continue
		}
		all[s.Name+"_bucket"] = append([]string{"le"}, s.Labels...)
		all[s.Name+"_count"] = s.Labels
		all[s.Name+"_sum"] = s.Labels
	}
	for _, name := range recorded {
		all[name] = []string{anyLabel}
	}
	return all
}

// anyLabel stands for all labels.
const anyLabel = "*"

// Expression reports everything that is wrong with an expression, joined: that
// it cannot be parsed, a series that does not exist, a label that none of its
// series has.
func (n Names) Expression(expr string) error {
	parsed, err := parse(expr)
	if err != nil {
		return err
	}
	var errs []error
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch e := node.(type) {
		case *parser.VectorSelector:
			errs = append(errs, n.selector(e)...)
		case *parser.AggregateExpr:
			errs = append(errs, n.labels(e.Expr, e.Grouping)...)
		case *parser.BinaryExpr:
			if m := e.VectorMatching; m != nil {
				errs = append(errs, n.labels(e, slices.Concat(m.MatchingLabels, m.Include))...)
			}
		}
		return nil
	})
	return errors.Join(errs...)
}

func parse(expr string) (parser.Expr, error) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return nil, fmt.Errorf("parse %q: %w", expr, err)
	}
	return parsed, nil
}

func (n Names) selector(s *parser.VectorSelector) []error {
	labels, known := n[s.Name]
	if !known {
		return []error{fmt.Errorf("nobody exports %q%s", s.Name, n.nearest(s.Name))}
	}
	var errs []error
	for _, m := range s.LabelMatchers {
		if !has(labels, m.Name) {
			errs = append(errs, fmt.Errorf("%s has no label %q, only %v", s.Name, m.Name, labels))
		}
	}
	return errs
}

// labels reports those that no series in the expression has.
func (n Names) labels(inside parser.Node, wanted []string) []error {
	var there []string
	parser.Inspect(inside, func(node parser.Node, _ []parser.Node) error {
		if s, is := node.(*parser.VectorSelector); is {
			there = append(there, n[s.Name]...)
		}
		return nil
	})
	var errs []error
	for _, l := range wanted {
		if !has(there, l) {
			errs = append(errs, fmt.Errorf("no series in %q has the label %q", inside, l))
		}
	}
	return errs
}

func has(labels []string, l string) bool {
	return slices.Contains(labels, anyLabel) || slices.Contains(labels, l) || slices.Contains(scraped, l)
}

// nearest names a series that may have been meant.
func (n Names) nearest(name string) string {
	for _, known := range slices.Sorted(maps.Keys(n)) {
		if len(name) > 8 && (strings.HasPrefix(known, name) || strings.HasPrefix(name, known)) {
			return fmt.Sprintf(", but %q", known)
		}
	}
	return ""
}

// results are the labels that the series of an expression's result can have.
func (n Names) results(expr parser.Expr) []string {
	switch e := expr.(type) {
	case *parser.AggregateExpr:
		if !e.Without {
			return e.Grouping
		}
		inner := slices.Clone(n.results(e.Expr))
		return slices.DeleteFunc(inner, func(l string) bool { return slices.Contains(e.Grouping, l) })
	case *parser.VectorSelector:
		return slices.Concat(n[e.Name], scraped)
	case *parser.MatrixSelector:
		return n.results(e.VectorSelector)
	case *parser.ParenExpr:
		return n.results(e.Expr)
	case *parser.BinaryExpr:
		left, right := n.results(e.LHS), n.results(e.RHS)
		switch {
		case len(left) == 0:
			return right
		case e.VectorMatching != nil && e.VectorMatching.Card == parser.CardOneToMany:
			return slices.Concat(right, e.VectorMatching.Include)
		case e.VectorMatching != nil:
			return slices.Concat(left, e.VectorMatching.Include)
		}
		return left
	case *parser.Call:
		var all []string
		for _, arg := range e.Args {
			all = append(all, n.results(arg)...)
		}
		return all
	}
	return nil
}
