package backtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/settings"
)

// run is one walk through the past: at every tick it is looked at once, and
// every course and every fleet makes of it what it would have made.
type run struct {
	source   source
	from, to time.Time
	every    time.Duration

	targets []settings.Target // that are enabled
	names   []metrics.Names   // of the controller
	scaler  *metrics.Names    // of the scaler, where it has others; else nil

	pasts   []*past           // of the targets, in their order
	stores  map[string]*store // by coordinator
	courses []*course
	fleets  []*fleet

	// least is what stores are held to take while the recorded queue was empty;
	// see store.
	least float64

	decided  func(*controller.Decision) error // is told of every decision; may be nil
	progress io.Writer
}

// glance is a reader that looks at the past.
type glance struct {
	answers answers
	reader  *metrics.Reader
}

func (r *run) glance(names []metrics.Names) (*glance, error) {
	g := &glance{answers: r.ask()}
	var err error
	g.reader, err = metrics.NewReader(&g.answers, names, slog.New(slog.DiscardHandler))
	return g, err
}

func (r *run) ask() answers { return answers{source: r.source.ranger, every: r.every, end: r.to} }

func (g *glance) read(ctx context.Context, now time.Time) (metrics.Snapshot, error) {
	g.answers.now = now
	return g.reader.Read(ctx)
}

// walk goes from the first tick to the last one.
func (r *run) walk(ctx context.Context) error {
	controls, err := r.glance(r.names)
	if err != nil {
		return err
	}
	scales := controls
	if r.scaler != nil {
		if scales, err = r.glance([]metrics.Names{*r.scaler}); err != nil {
			return err
		}
	}
	providers := r.ask()
	query := fmt.Sprintf(`{__name__=~"%s"}`, strings.Join(providerSeries(), "|"))
	var before time.Time
	for now := r.from; !now.After(r.to); now = now.Add(r.every) {
		if err := ctx.Err(); err != nil {
			return err
		}
		snapshot, err := controls.read(ctx, now)
		if err != nil {
			return err
		}
		providers.now = now
		told, _, _, err := providers.Query(ctx, query, now)
		if err != nil {
			return err
		}
		if err := r.tick(ctx, before, now, snapshot, reports(told.(model.Vector))); err != nil {
			return err
		}
		if len(r.fleets) > 0 {
			seen := snapshot
			if scales != controls {
				if seen, err = scales.read(ctx, now); err != nil {
					return err
				}
			}
			for _, f := range r.fleets {
				f.tick(before, now, seen)
			}
		}
		r.tell(before, now)
		before = now
	}
	return nil
}

func (r *run) tick(ctx context.Context, before, now time.Time, snapshot metrics.Snapshot, told []report) error {
	readings := map[string]reading{}
	for id, st := range r.stores {
		reading := read(snapshot, id, st.capacity)
		st.judge(&reading)
		readings[id] = reading
	}
	seen := make([]sight, len(r.targets))
	for i, t := range r.targets {
		seen[i] = look(t, readings, told)
		r.pasts[i].pass(before, now, seen[i])
	}
	for _, c := range r.courses {
		for _, d := range c.tick(ctx, before, now, snapshot, readings, seen) {
			if r.decided == nil {
				continue
			}
			if err := r.decided(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// longRun is from how many ticks on it is told how far a walk is.
const longRun = 5000

// tell tells each tenth of a long walk.
func (r *run) tell(before, now time.Time) {
	total := r.to.Sub(r.from)
	if before.IsZero() || total/r.every < longRun {
		return
	}
	tenth := func(at time.Time) int64 { return int64(10 * at.Sub(r.from) / total) }
	if is := tenth(now); is > tenth(before) {
		fmt.Fprintf(r.progress, "%3d %%, at %s\n", 10*is, now.UTC().Format(time.RFC3339))
	}
}

// title names the range.
func (r *run) title() string {
	return fmt.Sprintf("%s to %s (%v), every %v", r.from.UTC().Format(time.RFC3339), r.to.UTC().Format(time.RFC3339), r.to.Sub(r.from).Round(time.Second), r.every)
}
