package series

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

// Figures are what a queue tells at one moment, in items where nothing else is
// said. Of a part that is nil nothing is told.
type Figures struct {
	Whole  *Whole  // nil while it is not known
	Intake *Intake // nil where this process puts nothing in
	Drain  *Drain  // nil where this process writes nothing

	Shared bool // the whole is that of several processes, each of which tells it
	Events [pressure.Hard + 1]uint64
}

// Whole is how the queue is.
type Whole struct {
	Depth, Capacity, MaxDepth uint64
	Level                     pressure.Level
}

// Intake is what this process put in.
type Intake struct {
	Accepted    uint64
	BlockedPuts int // producers that wait for room
	Refused     []Reason
	Repeated    uint64 // offered again under a key that the queue knew; only where durable
}

// Drain is what this process took out.
type Drain struct {
	Written, DeadLettered uint64
	InFlight              int // in the workers' hands
	Dropped               []Reason
	GivenBack             uint64 // taken and left for others; only where durable
}

// Reason is a number of items by the reason of what happened to them.
type Reason struct {
	Name  string
	Items uint64
}

// Of makes the metrics of a queue's figures.
type Of struct {
	id      string
	durable bool
	descs   map[string]*prometheus.Desc
}

// New returns what makes the metrics of the queue of that coordinator. A durable
// queue has some more.
func New(id string, durable bool) *Of {
	o := &Of{id: id, durable: durable, descs: map[string]*prometheus.Desc{}}
	names := []string{
		metrics.QueueDepth, metrics.QueueCapacity, metrics.QueueMaxDepth, metrics.QueueInFlight,
		metrics.QueueBlockedPuts, metrics.BackpressureOK, metrics.BackpressureSoft, metrics.BackpressureHard,
		metrics.BackpressureEvents, metrics.ItemsAccepted, metrics.ItemsWritten, metrics.ItemsDropped,
		metrics.ItemsDeadLettered, metrics.ItemsRefused,
	}
	if durable {
		names = append(names, metrics.QueueShared, metrics.ItemsRepeated, metrics.ItemsGivenBack)
	}
	for _, name := range names {
		o.descs[name] = metrics.Desc(name)
	}
	return o
}

// Describe tells what Collect may make.
func (o *Of) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range o.descs {
		ch <- desc
	}
}

// Collect makes the metrics.
func (o *Of) Collect(ch chan<- prometheus.Metric, f Figures) {
	send := func(name string, kind prometheus.ValueType, value float64, label ...string) {
		ch <- prometheus.MustNewConstMetric(o.descs[name], kind, value, append([]string{o.id}, label...)...)
	}
	gauge := func(name string, value float64) { send(name, prometheus.GaugeValue, value) }
	counter := func(name string, value uint64, label ...string) {
		send(name, prometheus.CounterValue, float64(value), label...)
	}
	if f.Shared {
		gauge(metrics.QueueShared, 1)
	}
	if w := f.Whole; w != nil {
		gauge(metrics.QueueDepth, float64(w.Depth))
		gauge(metrics.QueueCapacity, float64(w.Capacity))
		gauge(metrics.QueueMaxDepth, float64(w.MaxDepth))
		gauge(metrics.BackpressureOK, OneIf(w.Level == pressure.OK))
		gauge(metrics.BackpressureSoft, OneIf(w.Level == pressure.Soft))
		gauge(metrics.BackpressureHard, OneIf(w.Level == pressure.Hard))
	}
	counter(metrics.BackpressureEvents, f.Events[pressure.OK], "ok")
	counter(metrics.BackpressureEvents, f.Events[pressure.Soft], "soft")
	counter(metrics.BackpressureEvents, f.Events[pressure.Hard], "hard")
	if i := f.Intake; i != nil {
		counter(metrics.ItemsAccepted, i.Accepted)
		gauge(metrics.QueueBlockedPuts, float64(i.BlockedPuts))
		for _, r := range i.Refused {
			counter(metrics.ItemsRefused, r.Items, r.Name)
		}
		if o.durable {
			counter(metrics.ItemsRepeated, i.Repeated)
		}
	}
	if d := f.Drain; d != nil {
		counter(metrics.ItemsWritten, d.Written)
		counter(metrics.ItemsDeadLettered, d.DeadLettered)
		gauge(metrics.QueueInFlight, float64(d.InFlight))
		for _, r := range d.Dropped {
			counter(metrics.ItemsDropped, r.Items, r.Name)
		}
		if o.durable {
			counter(metrics.ItemsGivenBack, d.GivenBack)
		}
	}
}

// OneIf is 1 for true and 0 for false.
func OneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
