package controller

import (
	"testing"
	"time"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/pressure"
)

// fleet is the law and the guard of many targets, each with a queue of its own.
type fleet struct {
	laws     []policy.Law
	limiters []*Limiter
	inputs   []policy.Input
	last     []float64
}

func newFleet(tb testing.TB, law string, targets int) *fleet {
	f := &fleet{}
	for i := range targets {
		l, err := policy.New(law, policy.Settings{
			OK: 1, Soft: 0.5, Exponential: policy.DefaultExponentialTuning(), PID: policy.DefaultPIDTuning(),
		})
		if err != nil {
			tb.Fatal(err)
		}
		depth := float64(i % 10_000)
		in := policy.Input{
			Elapsed: 5 * time.Second, Depth: depth, Capacity: 10_000, ArrivalsPerSecond: 900, DrainPerSecond: 1000,
			Thresholds:    pressure.Thresholds{SoftEnter: 5000, SoftExit: 4000, HardEnter: 8000, HardExit: 7000},
			BasePerSecond: 2000, FloorPerSecond: 1, DeadTime: 10 * time.Second, Age: time.Second, Fresh: true, InForce: 0.5,
		}
		switch {
		case depth >= 8000:
			in.Level = pressure.Hard
		case depth > 5000:
			in.Level = pressure.Soft
		}
		f.laws, f.inputs, f.last = append(f.laws, l), append(f.inputs, in), append(f.last, 0.5)
		f.limiters = append(f.limiters, NewLimiter(Guard{HardCap: 1, RisePerSecond: 0.1, ReversalsPerHour: 60}, uint64(i)))
	}
	return f
}

// tick decides for every target once. Depths move, so that no two ticks are
// alike.
func (f *fleet) tick() {
	for i, law := range f.laws {
		in := &f.inputs[i]
		in.Depth += 7
		if in.Depth > in.Capacity {
			in.Depth = 0
		}
		in.InForce = f.last[i]
		f.last[i], _ = f.limiters[i].Limit(in.Elapsed, in.Level, law.Decide(*in).Scale, f.last[i])
	}
}

func TestAPolicyAndItsGuardsAllocateNothing(t *testing.T) {
	for _, law := range policy.Names() {
		f := newFleet(t, law, 100)
		for range 1000 { // hours, so that whatever grows has grown
			f.tick()
		}
		if n := testing.AllocsPerRun(100, f.tick); n != 0 {
			t.Errorf("%s: a tick of 100 targets makes %v allocations", law, n)
		}
	}
}

// BenchmarkTickOfTenThousandTargets is policy and guards alone, without the
// reading and the applying.
func BenchmarkTickOfTenThousandTargets(b *testing.B) {
	const targets = 10_000
	for _, law := range policy.Names() {
		b.Run(law, func(b *testing.B) {
			f := newFleet(b, law, targets)
			for range 1000 { // until all that grows has grown
				f.tick()
			}
			b.ReportAllocs()
			for b.Loop() {
				f.tick()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/targets, "ns/target")
		})
	}
}
