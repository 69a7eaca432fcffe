package plant

import "time"

// queue is the queue with what waits before its gate and the store behind it.
// Items are counted in fractions.
type queue struct {
	scenario Scenario

	depth, upstream   float64 // in the queue, and before the gate
	accepted, written float64 // since the start
	came, refused     float64
	maxDepth          float64
	inflow, outflow   float64 // of the last step

	entered []entry // by accepted
	waits   waits
}

// entry says how much had been accepted by a time.
type entry struct {
	accepted float64
	at       time.Duration
}

const stepSeconds = float64(step) / float64(time.Second)

// flow lets one step go by with the gate at a rate.
func (q *queue) flow(now time.Duration, perSecond float64) {
	in := perSecond * stepSeconds
	if offered := q.scenario.Offered; offered != nil {
		q.upstream += offered(now) * stepSeconds
		in = min(in, q.upstream)
		q.upstream -= in
	}
	q.came += in
	out := min(q.scenario.Store(now)*stepSeconds, q.depth+in)
	q.depth += in - out
	if over := q.depth - q.scenario.Capacity; over > 0 {
		q.refused += over
		in -= over
		q.depth = q.scenario.Capacity
	}
	q.inflow, q.outflow = in, out
	q.accepted += in
	q.written += out
	q.maxDepth = max(q.maxDepth, q.depth)

	q.entered = append(q.entered, entry{q.accepted, now})
	for len(q.entered) > 1 && q.entered[0].accepted < q.written {
		q.entered = q.entered[1:]
	}
	if out > 0 {
		q.waits.add(now-q.entered[0].at, out)
	}
}

func (q *queue) point(now time.Duration, scale, couldWrite float64) Point {
	p := Point{
		At: now, Depth: q.depth, Scale: scale, StorePerSecond: q.scenario.Store(now),
		AcceptedPerSecond: q.inflow / stepSeconds, WrittenPerSecond: q.outflow / stepSeconds,
		RefusedItems: q.refused, WrittenItems: q.written, CouldWrite: couldWrite,
	}
	p.OfferedPerSecond = q.scenario.Base
	if offered := q.scenario.Offered; offered != nil {
		p.OfferedPerSecond = offered(now)
	}
	return p
}

// oracle knows the store at every moment, so that it always has what it can
// take, if the provider has sent it at its base rate, and nothing waits.
type oracle struct {
	scenario Scenario
	upstream float64
	written  float64
}

func (o *oracle) flow(now time.Duration) {
	out := min(o.scenario.Store(now), o.scenario.Base) * stepSeconds
	if offered := o.scenario.Offered; offered != nil {
		o.upstream += offered(now) * stepSeconds
		out = min(out, o.upstream)
		o.upstream -= out
	}
	o.written += out
}

// waits is a histogram of times in the queue, in steps.
type waits struct {
	items []float64
	total float64
}

func (w *waits) add(wait time.Duration, items float64) {
	i := int(wait / step)
	for len(w.items) <= i {
		w.items = append(w.items, 0)
	}
	w.items[i] += items
	w.total += items
}

func (w *waits) quantile(q float64) time.Duration {
	sum := 0.0
	for i, items := range w.items {
		sum += items
		if sum >= q*w.total {
			return time.Duration(i) * step
		}
	}
	return time.Duration(len(w.items)) * step
}
