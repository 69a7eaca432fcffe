package check

import (
	"context"
	"fmt"
	"slices"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/metrics"
)

// ours asks which scrape job, which has the name of a binary, each of our series
// comes from.
const ours = `count by (job, __name__) ({__name__=~"(coordinator|rate_coordinator|pipeline|headgate)_.*"})`

// Exporters reports series that a loop exports and the reference does not list,
// and those that come from a binary that it does not name.
func Exporters(ctx context.Context, server v1.API, now time.Time) (problems []error) {
	from := map[string][]string{} // binaries by the name of a series
	for _, section := range metrics.Sections() {
		for _, s := range section.Series {
			from[s.Name] = section.Binaries
			if s.Kind == metrics.Histogram {
				for _, suffix := range []string{"_bucket", "_count", "_sum"} {
					from[s.Name+suffix] = section.Binaries
				}
			}
		}
	}
	got, _, _, err := server.Query(ctx, ours, now)
	if err != nil {
		return []error{fmt.Errorf("ask who exports what: %w", err)}
	}
	vector, is := got.(model.Vector)
	if !is || len(vector) == 0 {
		return []error{fmt.Errorf("nobody exports any of our series")}
	}
	for _, sample := range vector {
		name, job := string(sample.Metric["__name__"]), string(sample.Metric["job"])
		switch binaries, known := from[name]; {
		case !known:
			problems = append(problems, fmt.Errorf("series %s of %s is not in the reference", name, job))
		case !slices.Contains(binaries, job):
			problems = append(problems, fmt.Errorf("series %s comes from %s, and the reference says %q", name, job, binaries))
		}
	}
	return problems
}
