package backtest

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/internal/figures"
	"github.com/headgate/headgate/pressure"
)

// Result is what one policy would have made of a target, or what there really
// was. What is not known is null in JSON.
type Result struct {
	Target   string    `json:"target"`
	Provider string    `json:"provider"`
	Policy   string    `json:"policy"` // or "recorded"
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Interval float64   `json:"interval_seconds"`

	OKHours    float64 `json:"ok_hours"`
	SoftHours  float64 `json:"soft_hours"`
	HardHours  float64 `json:"hard_hours"`
	BlindHours float64 `json:"blind_hours"` // without good signals

	MeanScale      controller.Number `json:"mean_scale"`
	LeastScale     controller.Number `json:"least_scale"`
	Turns          int               `json:"turns"` // changes of the scale's direction
	TotalVariation float64           `json:"total_variation"`

	OverflowItems controller.Number `json:"overflow_items"` // for which there would have been no room
	OverflowRatio controller.Number `json:"overflow_ratio"` // of those that came to the queue
	P50Wait       controller.Number `json:"p50_wait_seconds"`
	P99Wait       controller.Number `json:"p99_wait_seconds"`
	MaxDepth      controller.Number `json:"max_depth"`
	WrittenRatio  controller.Number `json:"written_ratio"`   // of what is written without a throttle
	HeldItems     controller.Number `json:"held_back_items"` // before the gate in the end

	UpperBoundHours float64 `json:"upper_bound_hours"` // in which the store may have been able to take more
	UnknownHours    float64 `json:"unknown_hours"`     // in which it is not known what came and was taken
	ThrottledHours  float64 `json:"throttled_hours"`   // in which the provider really was held back

	Levels []change `json:"levels"`
}

// Scaled is the replicas that one ScaledObject would have had.
type Scaled struct {
	ScaledObject     string            `json:"scaled_object"`
	From             time.Time         `json:"from"`
	To               time.Time         `json:"to"`
	Least            int               `json:"least_replicas"`
	Most             int               `json:"most_replicas"`
	Mean             controller.Number `json:"mean_replicas"`
	ReplicaHours     float64           `json:"replica_hours"`
	Changes          int               `json:"changes"`
	UnavailableHours float64           `json:"unavailable_hours"` // in which the scaler had no answer
	Replicas         []count           `json:"replicas"`
}

// recorded is the policy of what there really was.
const recorded = "recorded"

// title names a line for people.
func (l *line) title() string {
	return fmt.Sprintf("target %s, provider %s, policy %s", l.target.ID(), l.target.Provider, l.target.Policy)
}

// result tells of a target on a course.
func (r *run) result(l *line, p *past) Result {
	res := r.begin(l.account, p)
	res.Target, res.Provider, res.Policy = l.target.ID(), l.target.Provider, l.target.Policy
	res.MaxDepth = controller.Number(l.deepest)
	var came, refused, written, held float64
	var waits []wait
	room := true
	for _, st := range l.streams {
		if st.queue == nil {
			continue
		}
		q := st.queue
		came, refused, written, held = came+q.came, refused+q.refused, written+q.written, held+q.held
		waits = append(waits, q.waits...)
		room = room && !math.IsNaN(q.capacity)
		res.UpperBoundHours = max(res.UpperBoundHours, st.unsure.Hours())
	}
	if len(waits) == 0 {
		return res
	}
	res.P50Wait, res.P99Wait = controller.Number(quantile(waits, 0.5)), controller.Number(quantile(waits, 0.99))
	res.HeldItems, res.WrittenRatio = controller.Number(held), controller.Number(written/p.flow.written)
	if room {
		res.OverflowItems, res.OverflowRatio = controller.Number(refused), controller.Number(ratio(refused, came))
	}
	return res
}

// really tells what there was of a target.
func (r *run) really(i int, p *past) Result {
	res := r.begin(p.account, p)
	res.Target, res.Provider, res.Policy = r.targets[i].ID(), r.targets[i].Provider, recorded
	res.MaxDepth = controller.Number(p.deepest)
	if p.flow == nil || len(p.flow.waits) == 0 {
		return res
	}
	res.P50Wait, res.P99Wait = controller.Number(quantile(p.flow.waits, 0.5)), controller.Number(quantile(p.flow.waits, 0.99))
	res.OverflowItems, res.OverflowRatio = controller.Number(p.dropped), controller.Number(ratio(p.dropped, p.flow.came))
	res.WrittenRatio = 1
	return res
}

func unknown() controller.Number { return controller.Number(math.NaN()) }

// begin is what all results have alike.
func (r *run) begin(a account, p *past) Result {
	return Result{
		From: r.from.UTC(), To: r.to.UTC(), Interval: r.every.Seconds(),
		OKHours: a.levels[pressure.OK].Hours(), SoftHours: a.levels[pressure.Soft].Hours(),
		HardHours: a.levels[pressure.Hard].Hours(), BlindHours: a.blind.Hours(),
		MeanScale: controller.Number(a.mean()), LeastScale: controller.Number(a.least), Turns: a.turns, TotalVariation: a.variation,
		OverflowItems: unknown(), OverflowRatio: unknown(), P50Wait: unknown(), P99Wait: unknown(),
		MaxDepth: unknown(), WrittenRatio: unknown(), HeldItems: unknown(),
		UnknownHours: p.unknown.Hours(), ThrottledHours: p.throttled.Hours(), Levels: a.changes,
	}
}

// ratio is a over b, 0 where there is nothing of b.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// results are those of one target, what there was first.
func (r *run) results(i int) []Result {
	all := []Result{r.really(i, r.pasts[i])}
	for _, c := range r.courses {
		all = append(all, r.result(c.lines[i], r.pasts[i]))
	}
	return all
}

func (r *run) scaled() []Scaled {
	var all []Scaled
	for _, f := range r.fleets {
		s := Scaled{
			ScaledObject: f.object.name, From: r.from.UTC(), To: r.to.UTC(), Least: math.MaxInt,
			Mean: controller.Number(f.seconds / f.passed.Seconds()), ReplicaHours: f.seconds / 3600,
			Changes: len(f.counts) - 1, UnavailableHours: f.unavailable.Hours(), Replicas: f.counts,
		}
		for _, c := range f.counts {
			s.Least, s.Most = min(s.Least, c.Replicas), max(s.Most, c.Replicas)
		}
		all = append(all, s)
	}
	return all
}

func (r *run) writeJSON(to io.Writer) error {
	encoder := json.NewEncoder(to)
	for i := range r.targets {
		for _, res := range r.results(i) {
			if err := encoder.Encode(res); err != nil {
				return fmt.Errorf("write the results: %w", err)
			}
		}
	}
	for _, s := range r.scaled() {
		if err := encoder.Encode(s); err != nil {
			return fmt.Errorf("write the results: %w", err)
		}
	}
	return nil
}

func (r *run) writeTable(to io.Writer) error {
	var b strings.Builder
	fmt.Fprintln(&b, r.title())
	for i, t := range r.targets {
		fmt.Fprintf(&b, "\ntarget %s, provider %s\n", t.ID(), t.Provider)
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "POLICY\tOK\tSOFT\tHARD\tBLIND\tSCALE\tTURNS\tOVERFLOW\tP50 WAIT\tP99 WAIT\tDEPTH\tWRITTEN")
		for _, res := range r.results(i) {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", res.Policy,
				hours(res.OKHours), hours(res.SoftHours), hours(res.HardHours), hours(res.BlindHours),
				number(res.MeanScale, "%.3f", 1), res.Turns, number(res.OverflowRatio, "%.3f %%", 100),
				number(res.P50Wait, "%.2f s", 1), number(res.P99Wait, "%.2f s", 1),
				number(res.MaxDepth, "%.0f", 1), number(res.WrittenRatio, "%.2f %%", 100))
		}
		if err := table.Flush(); err != nil {
			return fmt.Errorf("write the table: %w", err)
		}
		r.notes(&b, i)
	}
	if all := r.scaled(); len(all) > 0 {
		fmt.Fprintln(&b)
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "SCALED OBJECT\tLEAST\tMEAN\tMOST\tREPLICA HOURS\tCHANGES\tUNAVAILABLE")
		for _, s := range all {
			fmt.Fprintf(table, "%s\t%d\t%s\t%d\t%.2f\t%d\t%s\n", s.ScaledObject, s.Least, number(s.Mean, "%.2f", 1), s.Most, s.ReplicaHours, s.Changes, hours(s.UnavailableHours))
		}
		if err := table.Flush(); err != nil {
			return fmt.Errorf("write the table: %w", err)
		}
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// notes tell how far the figures of a target can be trusted.
func (r *run) notes(b *strings.Builder, i int) {
	p := r.pasts[i]
	if p.empty > 0 {
		fmt.Fprintf(b, "  The recorded queue was empty for %s: the store may have been able to take more than it did. %s\n", span(p.empty), r.heldToTake())
	}
	if p.throttled > 0 {
		fmt.Fprintf(b, "  The provider was held back for %s: more may have been there to arrive than did.\n", span(p.throttled))
	}
	if p.unknown > 0 {
		fmt.Fprintf(b, "  For %s it is not known what came and what was taken; that time is left out of overflow, waits, depth and written.\n", span(p.unknown))
	}
	for _, c := range r.courses {
		l := c.lines[i]
		if math.IsNaN(l.gate.supply) {
			fmt.Fprintf(b, "  What would have become of the queue is not known: no series tells the base rate of provider %s; give --base-rate.\n", l.target.Provider)
			return
		}
	}
	for _, s := range r.courses[0].lines[i].streams {
		if s.queue != nil && math.IsNaN(s.queue.capacity) {
			b.WriteString("  The overflow is not known: nothing tells the queue's capacity; give HEADGATE_QUEUE_CAPACITY.\n")
			return
		}
	}
}

// heldToTake says what stores are held to take while their queue was empty.
func (r *run) heldToTake() string {
	switch {
	case math.IsNaN(r.least):
		return "It is held to have been as fast as when it last had work."
	case r.least == 0:
		return "Overflow and waits are upper bounds."
	}
	return fmt.Sprintf("It is held to have been able to take %s items per second.", figures.Number(r.least))
}

// span writes a time for people.
func span(d time.Duration) string { return model.Duration(d.Round(time.Second)).String() }

func hours(h float64) string { return span(time.Duration(h * float64(time.Hour))) }

// number writes a number times a factor, or a dash where it is not known.
func number(n controller.Number, format string, factor float64) string {
	if !n.Known() {
		return "-"
	}
	return fmt.Sprintf(format, factor*float64(n))
}
