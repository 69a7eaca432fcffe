package check

import (
	"context"
	"fmt"
	"slices"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/headgate/headgate/deploy/monitoring/rules"
)

// LiveRules asks a server for every expression of the rules that needs no
// recorded series, and reports those that it cannot evaluate, recording rules
// without data, and critical alerts whose condition holds on a loop that is
// well. lines tells of the other alerts whose condition holds.
func LiveRules(ctx context.Context, server v1.API, file rules.File, at time.Time) (lines []string, problems []error) {
	recorded := file.Recorded()
	asked := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if slices.ContainsFunc(word.FindAllString(r.Expr, -1), func(w string) bool { return slices.Contains(recorded, w) }) {
				continue
			}
			asked++
			got, _, _, err := server.Query(ctx, r.Expr, at)
			name := r.Alert + r.Record
			switch holds := err == nil && numbers(got) > 0; {
			case err != nil:
				problems = append(problems, fmt.Errorf("rule %s: %w", name, err))
			case r.Record != "" && !holds:
				problems = append(problems, fmt.Errorf("rule %s: no data", name))
			case r.Alert != "" && holds && r.Labels["severity"] == "critical":
				problems = append(problems, fmt.Errorf("rule %s: its condition holds: %s", name, got))
			case r.Alert != "" && holds:
				lines = append(lines, fmt.Sprintf("rule %s: its condition holds: %s", name, got))
			}
		}
	}
	return append(lines, fmt.Sprintf("%d rules were evaluated", asked)), problems
}
