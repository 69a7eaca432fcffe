package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pipeline/journal"
	"github.com/headgate/headgate/pressure"
)

// verdict is what a run was like, and whether the loop closed in it. It is the
// last line of make smoke.
type verdict struct {
	Levels []string  `json:"levels"` // seen by the controller, one for each change
	Scales []float64 `json:"scales"` // in force after it applied them, one for each change

	Decisions         int `json:"decisions"`
	PrometheusQueries int `json:"prometheus_queries"` // as Prometheus itself counts them

	Accepted     uint64 `json:"accepted"`
	Written      uint64 `json:"written"`
	Waiting      uint64 `json:"waiting"`
	Dropped      uint64 `json:"dropped"`
	DeadLettered uint64 `json:"dead_lettered"`
	Refused      uint64 `json:"refused"`   // not accepted, because the queue was full
	Rows         uint64 `json:"rows"`      // in the database, after all was over
	Conserved    bool   `json:"conserved"` // the counts add up, and the rows are those written

	Capacity          uint64  `json:"capacity"`
	MaxDepth          uint64  `json:"max_depth"`
	WrittenInTime     uint64  `json:"written_in_time"`  // while the market was open, as Prometheus last saw it
	P99WaitSeconds    float64 `json:"p99_wait_seconds"` // in the queue, of what was written while the market was open
	MaxRateOverBudget float64 `json:"max_rate_over_budget"`

	Factor  float64 `json:"factor"` // every count of the trace was multiplied by it
	Seconds float64 `json:"seconds"`
	Policy  string  `json:"policy"`

	Closed bool     `json:"closed"`           // the loop closed, and all is conserved
	Faults []string `json:"faults,omitempty"` // why it did not

	scraped, ticked time.Time // the last that were seen, of a depth and of the controller
	granted         time.Time // the first item
}

// see takes one decision into the verdict.
func (v *verdict) see(d decision) {
	v.Decisions++
	if d.Age != nil {
		v.ticked = d.At
		v.scraped = d.At.Add(-time.Duration(*d.Age * float64(time.Second)))
	}
	if level := d.Level.String(); len(v.Levels) == 0 || v.Levels[len(v.Levels)-1] != level {
		v.Levels = append(v.Levels, level)
	}
	if d.Outcome != "applied" || d.InForce == nil {
		return
	}
	if scale := *d.InForce; len(v.Scales) == 0 || v.Scales[len(v.Scales)-1] != scale {
		v.Scales = append(v.Scales, scale)
	}
}

// summary is what the pipeline says of itself when it has stopped.
type summary struct {
	Accepted     uint64 `json:"accepted"`
	Written      uint64 `json:"written"`
	Waiting      uint64 `json:"waiting"`
	Dropped      uint64 `json:"dropped"`
	DeadLettered uint64 `json:"dead_lettered"`
	MaxDepth     uint64 `json:"max_depth"`

	Sources map[string]struct {
		Offered  uint64 `json:"offered"`
		Accepted uint64 `json:"accepted"`
	} `json:"sources"`
}

// whileRunning fills in what only the running processes can tell.
func (v *verdict) whileRunning(ctx context.Context, l *loop) error {
	var err error
	if v.PrometheusQueries, err = l.queries(ctx); err != nil {
		return err
	}
	prometheus, err := l.asking()
	if err != nil {
		return err
	}
	_, written := l.totals(ctx, prometheus)
	if math.IsNaN(written) {
		return errors.New("what was written was not measured")
	}
	v.WrittenInTime = uint64(written)
	v.P99WaitSeconds, err = ask(ctx, prometheus,
		"histogram_quantile(0.99, sum("+metrics.QueueWait+"))") // native, to within 5 %
	if err == nil && math.IsNaN(v.P99WaitSeconds) {
		err = errors.New("no item's wait was measured")
	}
	return err
}

// afterStop fills in what is left behind by the pipeline, and judges.
func (v *verdict) afterStop(ctx context.Context, dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "summary.json"))
	if err != nil {
		return fmt.Errorf("read the pipeline's summary: %w", err)
	}
	var s summary
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("read the pipeline's summary: %w", err)
	}
	v.Accepted, v.Written, v.Waiting, v.Dropped = s.Accepted, s.Written, s.Waiting, s.Dropped
	v.DeadLettered, v.MaxDepth = s.DeadLettered, s.MaxDepth
	for _, source := range s.Sources {
		v.Refused += source.Offered - source.Accepted
	}
	if v.Rows, err = rows(ctx, filepath.Join(dir, "bars.db")); err != nil {
		return err
	}
	audit, err := journal.Read(filepath.Join(dir, "grants.csv"))
	if err != nil {
		return err
	}
	v.granted, v.MaxRateOverBudget = audit.First, audit.Most
	v.Conserved = v.Accepted == v.Written+v.Waiting+v.Dropped+v.DeadLettered && v.Rows == v.Written
	v.judge()
	return nil
}

// rows counts what is really in the database.
func rows(ctx context.Context, path string) (uint64, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return 0, fmt.Errorf("count the rows: %w", err)
	}
	defer db.Close()
	var n uint64
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM items").Scan(&n); err != nil {
		return 0, fmt.Errorf("count the rows: %w", err)
	}
	return n, nil
}

// judge says whether the loop closed: the pressure rose and was over in the
// end, the scale fell and rose again, the provider kept to its budget, and all
// items are accounted for. Laws that act before the level rises, as all do but
// step, may keep it from rising at all.
func (v *verdict) judge() {
	v.Faults = nil
	fault := func(is bool, why string) {
		if is {
			v.Faults = append(v.Faults, why)
		}
	}
	worst := pressure.OK
	for _, name := range v.Levels {
		level, _ := pressure.ParseLevel(name)
		worst = max(worst, level)
	}
	last := len(v.Levels) - 1
	fault(worst == pressure.OK && v.Policy == policy.StepName, "the level never rose")
	fault(last < 0 || v.Levels[last] != pressure.OK.String(), "the depth did not recover: the level was not OK at the end")
	fell, rose := turns(v.Scales)
	fault(!fell, "the scale never fell")
	fault(!rose, "the scale did not rise again")
	fault(v.Accepted == 0, "no item was accepted")
	fault(!v.Conserved, "items are not accounted for")
	fault(v.MaxRateOverBudget > 1, "the provider ran above its budget")
	v.Closed = len(v.Faults) == 0
}

// turns reports whether the scales fell at some time, and rose at some time
// after that.
func turns(scales []float64) (fell, rose bool) {
	for i := 1; i < len(scales); i++ {
		switch {
		case scales[i] < scales[i-1]:
			fell = true
		case fell:
			rose = true
		}
	}
	return fell, rose
}
