package engine

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/headgate/headgate/internal/invalid/invalidtest"
	"github.com/headgate/headgate/metrics"
)

// FuzzNames gives the reader the names of series and label matchers that settings
// may hold. What is accepted makes a query that Prometheus' own parser takes, and
// that asks for these series and for nothing else: no setting brings PromQL in.
func FuzzNames(f *testing.F) {
	for _, seed := range []struct{ depth, label, matchers string }{
		{"coordinator_queue_depth", "coordinator_id", ""},
		{"my:depth", "queue", `job="bars",env=~"prod|test"`},
		{"up} or vector(1) #", "a", `a="b"} or up{c="d"`},
		{"depth", "__name__", `a="\"} or up #"`},
		{"depth", "a", "a=\"b\nc\""}, {"depth", "a", `a=~"("`}, {"depth", "a", `a="\q"`}, {"depth", "a", `__name__="up"`}, {"depth", "a", `headgate_part!="x",`}, {"dépth", "a", "a=\"\xff\""},
	} {
		f.Add(seed.depth, seed.label, seed.matchers)
	}
	quiet := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, depth, label, matchers string) {
		names := metrics.DefaultNames()
		names.Depth, names.CoordinatorLabel, names.Matchers = depth, label, matchers
		reader, err := metrics.NewReader(nil, []metrics.Names{names, metrics.DefaultNames()}, quiet)
		if err != nil {
			invalidtest.Explained(t, err)
			return
		}
		expression, err := parser.NewParser(parser.Options{}).ParseExpr(reader.Query())
		if err != nil {
			t.Fatalf("depth %q, label %q, matchers %q make a query that is none: %v", depth, label, matchers, err)
		}
		known := []string{depth, names.Capacity, names.Soft, names.Hard, names.Shared, names.Accepted, names.Written, names.Dropped, metrics.QueueDepth}
		asked := 0
		parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
			switch n := node.(type) {
			case *parser.VectorSelector:
				asked++
				named := 0
				for _, m := range n.LabelMatchers {
					if m.Name != "__name__" {
						continue
					}
					named++
					for name := range strings.SplitSeq(m.Value, "|") {
						if !slices.Contains(known, name) {
							t.Fatalf("matchers %q ask for %q", matchers, name)
						}
					}
				}
				if named != 1 {
					t.Fatalf("matchers %q name a series %d times in %s", matchers, named, n)
				}
			case *parser.Call:
				if !slices.Contains([]string{"vector", "timestamp", "label_replace"}, n.Func.Name) {
					t.Fatalf("depth %q, label %q, matchers %q call %s", depth, label, matchers, n.Func.Name)
				}
			case *parser.SubqueryExpr, *parser.MatrixSelector, *parser.AggregateExpr:
				t.Fatalf("depth %q, label %q, matchers %q bring in %s", depth, label, matchers, node)
			}
			return nil
		})
		if asked == 0 {
			t.Fatal("nothing is asked for")
		}
	})
}
