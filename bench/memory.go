package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

func memoryGroup() group {
	return group{
		name: "memory",
		about: fmt.Sprintf("What a controller of so many targets keeps in memory beyond one of a single target, with the decisions that are kept by default: %d of each target, and 20,000 of all together. "+
			"Every depth changes from tick to tick; the snapshots come from memory. The second row holds what is kept after many ticks against what was kept as soon as all decisions were there.", keptDecisions),
		measure: func(ctx context.Context, _ int) (rows []Row, err error) {
			empty, err := heapAfter(ctx, 1, fewTicks)
			if err != nil {
				return nil, err
			}
			var sizes []int
			var costs []float64
			for _, targets := range []int{100, 1_000, 10_000} {
				kept, err := heapAfter(ctx, targets, fewTicks, manyTicks)
				if err != nil {
					return nil, err
				}
				sizes, costs = append(sizes, targets), append(costs, kept[1]-empty[0])
				name := fmt.Sprintf("controller memory, %v targets", Figure(targets))
				mebibytes := func(bytes float64) float64 { return bytes / (1 << 20) }
				rows = append(rows,
					atMost(1).against(name, "MiB", "limit", mebibytes(kept[1]-empty[0]), 64),
					atMost(1.1).against(fmt.Sprintf("%s: flat over %d ticks", name, manyTicks), "MiB", fmt.Sprintf("after %d ticks", fewTicks), mebibytes(kept[1]), mebibytes(kept[0])))
			}
			rows[len(rows)-2].note = growth(sizes, costs)
			return rows, nil
		},
	}
}

const (
	keptDecisions = 100
	fewTicks      = keptDecisions + 10
	manyTicks     = 1000
)

// moving is a reader whose depths change with each read.
type moving struct {
	fleet int
	reads int
}

func (m *moving) Read(context.Context) (metrics.Snapshot, error) {
	m.reads++
	now := time.Now()
	s := metrics.Snapshot{ReadAt: now, Coordinators: make(map[string]metrics.Observation, m.fleet)}
	for i := range m.fleet {
		id := coordinatorID(m.fleet, i)
		s.Coordinators[id] = metrics.Observation{
			CoordinatorID: id, Depth: float64((i*31 + m.reads*7) % 10_000), Capacity: 10_000, Level: pressure.OK, HasLevel: true,
			Arrivals: metrics.Rate{PerSecond: 900, Known: true}, Drain: metrics.Rate{PerSecond: 1000, Known: true}, At: now, Newest: now,
		}
	}
	return s, nil
}

// heapAfter is the bytes in use by all that lives after each of so many ticks.
func heapAfter(ctx context.Context, fleet int, ticks ...uint64) (heaps []float64, err error) {
	all, err := benchTargets(fleet, metrics.DefaultNames())
	if err != nil {
		return nil, err
	}
	c, err := controller.New(controller.Config{
		Interval: 20*time.Millisecond + time.Duration(fleet)*10*time.Microsecond, QueryTimeout: time.Second, ApplyTimeout: time.Second,
		Holder: "bench", Decisions: keptDecisions,
	}, &moving{fleet: fleet}, all, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	for _, want := range ticks {
		for {
			n, _, err := ticksOf(registry)
			if err != nil {
				return nil, err
			}
			if n >= want {
				break
			}
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return nil, err
			}
		}
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		heaps = append(heaps, float64(stats.HeapAlloc))
	}
	return heaps, nil
}
