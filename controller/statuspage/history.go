package statuspage

import (
	"math"
	"strconv"
	"time"

	"github.com/headgate/headgate/controller"
)

const (
	// span is how far back the history reaches.
	span = time.Hour

	// historyBudget bounds the memory of all targets' histories together. With
	// many targets each has fewer and longer bins; leastBins are never undercut.
	historyBudget = 32 << 20
	mostBins      = 720 // of 5 s
	leastBins     = 30  // of 2 min
)

// Columns of a target's history.
const (
	columnDepth = iota
	columnCapacity
	columnSoftEnter
	columnHardEnter
	columnArrivals
	columnDrain
	columnLevel
	columnReplicas
	signalColumns
)

// Columns of each provider, which follow those of its target.
const (
	columnScale = iota
	columnInForce
	columnAllowed
	providerColumns
)

// history holds the last hour of all targets in bins of equal length. The
// depth, the level and the replicas of a bin are the highest, its scales the
// lowest, and all else the last, so that a peak is seen however long a bin is.
// It is not safe for concurrent use.
type history struct {
	step   time.Duration
	size   int         // bins
	bins   []int64     // number of each bin in use since the epoch, in a ring
	head   int         // the newest
	values [][]float32 // of each target: its columns, each of size values
	width  []int       // columns of each target
}

// newHistory makes room for the history of those targets, of which none is
// made faster than once in an interval.
func newHistory(rows []controller.Row, interval time.Duration) *history {
	h := &history{width: make([]int, len(rows)), values: make([][]float32, len(rows))}
	columns := 0
	for i, r := range rows {
		h.width[i] = signalColumns + providerColumns*len(r.Target.Providers)
		columns += h.width[i]
	}
	h.size = min(mostBins, max(leastBins, historyBudget/4/max(1, columns)))
	h.step = (max(interval, span/time.Duration(h.size)) + time.Second - 1).Truncate(time.Second)
	h.size = min(h.size, int((span+h.step-1)/h.step))
	for i := range rows {
		h.values[i] = make([]float32, h.width[i]*h.size)
	}
	return h
}

var unknown = float32(math.NaN())

// add takes in what is known at a time, which is never before the last one.
func (h *history) add(now time.Time, rows []controller.Row) {
	bin := now.UnixNano() / int64(h.step)
	fresh := len(h.bins) == 0 || bin > h.bins[h.head]
	if fresh {
		if len(h.bins) < h.size {
			h.bins = append(h.bins, bin)
			h.head = len(h.bins) - 1
		} else {
			h.head = (h.head + 1) % h.size
			h.bins[h.head] = bin
		}
	}
	for i, row := range rows {
		if row.Target.Disabled {
			continue
		}
		if fresh {
			for column := range h.width[i] {
				*h.at(i, column, h.head) = unknown
			}
		}
		h.addRow(i, row.Latest)
	}
}

func (h *history) at(target, column, bin int) *float32 {
	return &h.values[target][column*h.size+bin]
}

func (h *history) addRow(i int, latest []*controller.Decision) {
	highest := func(column int, v controller.Number) {
		if at := h.at(i, column, h.head); v.Known() && !(*at > float32(v)) {
			*at = float32(v)
		}
	}
	last := func(column int, v controller.Number) { *h.at(i, column, h.head) = float32(v) }
	for p, d := range latest {
		if p == 0 && d.Fault == controller.FaultNone {
			highest(columnDepth, d.Depth)
			if d.Level != nil {
				highest(columnLevel, controller.Number(*d.Level))
			}
			if d.Replicas > 0 {
				highest(columnReplicas, controller.Number(d.Replicas))
			}
			last(columnCapacity, d.Capacity)
			last(columnSoftEnter, d.SoftEnter)
			last(columnHardEnter, d.HardEnter)
			last(columnArrivals, d.ArrivalsPerSecond)
			last(columnDrain, d.DrainPerSecond)
		}
		first := signalColumns + p*providerColumns
		lowest := func(column int, v controller.Number) {
			if at := h.at(i, first+column, h.head); v.Known() && !(*at < float32(v)) {
				*at = float32(v)
			}
		}
		lowest(columnScale, d.Scale)
		lowest(columnInForce, d.InForce)
		last(first+columnAllowed, d.Effective)
	}
}

// column is a line of a chart: null where a value is not known.
type column []float32

// MarshalJSON writes each number as short as its precision allows.
func (c column) MarshalJSON() ([]byte, error) {
	text := append(make([]byte, 0, 8*len(c)+2), '[')
	for i, v := range c {
		if i > 0 {
			text = append(text, ',')
		}
		if v != v || math.IsInf(float64(v), 0) {
			text = append(text, "null"...)
		} else {
			text = strconv.AppendFloat(text, float64(v), 'g', -1, 32)
		}
	}
	return append(text, ']'), nil
}

// past is the last hour of a target as it is served.
type past struct {
	Target      string    `json:"target"`
	StepSeconds float64   `json:"step_seconds"`
	Times       []float64 `json:"times"` // beginnings of the bins, in seconds since the epoch

	Depth     column `json:"depth"`
	Capacity  column `json:"capacity"`
	SoftEnter column `json:"soft_enter"`
	HardEnter column `json:"hard_enter"`
	Arrivals  column `json:"arrivals_per_second"`
	Drain     column `json:"drain_per_second"`
	Level     column `json:"level"`
	Replicas  column `json:"replicas"`

	Providers []providerPast `json:"providers"`
}

type providerPast struct {
	Provider  string `json:"provider"`
	Scale     column `json:"scale"`
	InForce   column `json:"scale_in_force"`
	Effective column `json:"effective_per_second"`
}

// of returns the history of the target with that index, of at most an hour
// before now. Where the loop stood still there is one bin of nothing, so that no
// line is drawn over it.
func (h *history) of(i int, row controller.Row, now time.Time) past {
	p := past{Target: row.Target.Name, StepSeconds: h.step.Seconds(), Times: []float64{}}
	columns := make([]column, h.width[i])
	for c := range columns {
		columns[c] = column{}
	}
	oldest := now.Add(-span).UnixNano() / int64(h.step)
	for n := range h.bins {
		bin := (h.head + 1 + n) % len(h.bins)
		number := h.bins[bin]
		if number < oldest || row.Target.Disabled {
			continue
		}
		if last := len(p.Times) - 1; last >= 0 && float64(number)*p.StepSeconds > p.Times[last]+1.5*p.StepSeconds {
			p.Times = append(p.Times, p.Times[last]+p.StepSeconds)
			for c := range columns {
				columns[c] = append(columns[c], unknown)
			}
		}
		p.Times = append(p.Times, float64(number)*p.StepSeconds)
		for c := range columns {
			columns[c] = append(columns[c], *h.at(i, c, bin))
		}
	}
	p.Depth, p.Capacity = columns[columnDepth], columns[columnCapacity]
	p.SoftEnter, p.HardEnter = columns[columnSoftEnter], columns[columnHardEnter]
	p.Arrivals, p.Drain = columns[columnArrivals], columns[columnDrain]
	p.Level, p.Replicas = columns[columnLevel], columns[columnReplicas]
	for n, provider := range row.Target.Providers {
		of := columns[signalColumns+n*providerColumns:]
		p.Providers = append(p.Providers, providerPast{provider.Name, of[columnScale], of[columnInForce], of[columnAllowed]})
	}
	return p
}
