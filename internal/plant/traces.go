package plant

import (
	"time"

	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/trace"
)

// Replay says how recorded traces become a scenario. Zero values are chosen
// from the traces.
type Replay struct {
	Arrivals trace.Trace // items per row
	Capacity trace.Trace // items per second; it begins anew when it ends

	Length        time.Duration // of the run; arrivals are sped up or slowed down to it. 0 is their own, at most an hour
	ScaleArrivals float64       // factor on the arrivals; 0 is the one at which the provider has something to wait with half of the time
	ScaleCapacity float64       // factor on the capacity; 0 brings its mean to 1,000 items per second
	Base          float64       // items per second; 0 is twice the mean capacity
	QueueCapacity float64       // items; 0 is what the mean capacity takes in ten seconds
	Saturated     bool          // the provider always has something to send; the arrivals do not matter then

	Scrape, Evaluate time.Duration
	Seed             uint64
}

const (
	longestReplay = time.Hour
	meanCapacity  = 1000 // items per second
)

// Scenario makes the scenario, and tells the factors that it chose.
func (r Replay) Scenario() (Scenario, Replay) {
	if r.Length == 0 {
		r.Length = longestReplay
		if !r.Saturated {
			r.Length = min(r.Length, r.Arrivals.Duration())
		}
	}
	if r.ScaleCapacity == 0 {
		r.ScaleCapacity = meanCapacity / max(mean(r.Capacity), 1e-9)
	}
	capacity := r.ScaleCapacity * mean(r.Capacity)
	if r.Base == 0 {
		r.Base = 2 * capacity
	}
	if r.QueueCapacity == 0 {
		r.QueueCapacity = 10 * capacity
	}
	s := Scenario{
		Length: r.Length.Round(step), Capacity: r.QueueCapacity, Base: r.Base, Floor: 1,
		Store:  looped(r.Capacity, r.ScaleCapacity, r.Length),
		Scrape: r.Scrape, Evaluate: r.Evaluate, Apply: 50 * time.Millisecond, Jitter: 0.05, Seed: r.Seed,
		Thresholds: pressure.Thresholds{
			SoftEnter: 0.5 * r.QueueCapacity, SoftExit: 0.4 * r.QueueCapacity,
			HardEnter: 0.8 * r.QueueCapacity, HardExit: 0.7 * r.QueueCapacity,
		},
	}
	if r.Saturated {
		return s, r
	}
	speed := float64(r.Arrivals.Duration()) / float64(r.Length)
	unscaled := rates(r.Arrivals, speed, r.Length)
	if r.ScaleArrivals == 0 {
		r.ScaleArrivals = busyHalf(s, unscaled)
	}
	s.Offered = func(at time.Duration) float64 { return r.ScaleArrivals * unscaled(at) }
	return s, r
}

// rates makes rates of the counts in a trace that runs that much faster. Of
// storms inside a step the mean counts, so that no item is lost.
func rates(t trace.Trace, speed float64, length time.Duration) Rate {
	counted := make([]float64, length/step+1) // items in each step
	for i, p := range t.Points {
		from := float64(p.At) / speed / float64(step)
		to := float64(p.At+t.Span(i)) / speed / float64(step)
		for k := int(from); float64(k) < to && k < len(counted); k++ {
			part := min(to, float64(k+1)) - max(from, float64(k))
			counted[k] += p.Value * part / (to - from)
		}
	}
	return func(at time.Duration) float64 {
		if i := int(at / step); i < len(counted) {
			return counted[i] / stepSeconds
		}
		return 0
	}
}

// looped makes rates of a capacity, which begins anew when it ends.
func looped(t trace.Trace, factor float64, length time.Duration) Rate {
	values := make([]float64, length/step+1)
	row := -1
	for k := range values {
		at := time.Duration(k) * step % t.Duration()
		if row+1 < len(t.Points) && t.Points[row+1].At <= at || at == 0 {
			row = t.Row(at)
		}
		if row >= 0 {
			values[k] = factor * t.Points[row].Value
		}
	}
	return func(at time.Duration) float64 { return values[min(int(at/step), len(values)-1)] }
}

// mean is the mean value over the trace's time.
func mean(t trace.Trace) float64 {
	sum := 0.0
	for i, p := range t.Points {
		sum += p.Value * t.Span(i).Seconds()
	}
	return sum / max(t.Duration().Seconds(), 1e-9)
}

// busyHalf is the factor on the arrivals at which even the oracle has
// something left to send half of the time.
func busyHalf(s Scenario, arrivals Rate) float64 {
	busy := func(factor float64) float64 {
		s.Offered = func(at time.Duration) float64 { return factor * arrivals(at) }
		o, steps, waiting := oracle{scenario: s}, 0, 0
		for now := time.Duration(0); now < s.Length; now += step {
			o.flow(now)
			steps++
			if o.upstream > 0 {
				waiting++
			}
		}
		return float64(waiting) / float64(max(1, steps))
	}
	low, high := 0.0, 1.0
	for busy(high) < 0.5 && high < 1e9 {
		low, high = high, 2*high
	}
	for range 20 {
		middle := (low + high) / 2
		if busy(middle) < 0.5 {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}
