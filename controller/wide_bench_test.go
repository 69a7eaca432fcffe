package controller

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/coordinator/httpapi"
	"github.com/headgate/headgate/pressure"
)

// prompt is a gate that does what it is told at once.
type prompt struct{}

func (prompt) Apply(_ context.Context, _ string, l coordinator.ScaleRequest) (coordinator.State, error) {
	return coordinator.State{BasePerSecond: 100, EffectivePerSecond: 100 * l.Scale, Scale: l.Scale}, nil
}

func (prompt) State(context.Context, string) (coordinator.State, error) {
	return coordinator.State{BasePerSecond: 100, EffectivePerSecond: 100, Scale: 1}, nil
}

// BenchmarkWholeTick is the whole of a controller's tick but for the query's way and
// the calls': the signals come from memory, and coordinators answer at once. Every
// depth moves at each tick, and every lease is renewed.
func BenchmarkWholeTick(b *testing.B) {
	for _, n := range []int{10_000, 30_000, 100_000} {
		b.Run(fmt.Sprint(n, "_targets"), func(b *testing.B) {
			empty := inUse()
			targets := make([]Target, n)
			for i := range targets {
				targets[i] = target(b, fmt.Sprint("t-", i), prompt{}, func(t *Target) {
					t.CoordinatorIDs = []string{fmt.Sprint("bars-", i)}
				})
			}
			cfg := config()
			cfg.Interval = time.Hour
			cfg.QueryTimeout = time.Hour
			c, err := New(cfg, &many{n: n}, targets, slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			c.begin(time.Now())
			var reading sync.WaitGroup
			c.tick(b.Context(), &reading)
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				c.tick(b.Context(), &reading)
			}
			reading.Wait()
			b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N)/float64(n), "cpu-ns/target")
			b.ReportMetric((inUse()-empty)/float64(n), "held-B/target")
			runtime.KeepAlive(c)
		})
	}
}

// inUse is the bytes of all that lives.
func inUse() float64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

// processorTime is what this process has used so far: it counts, and not the time
// on the clock, where the machine does other work.
func processorTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkApplyOverHTTP is one lease on its way to a coordinator on the loopback
// and back, over a kept connection; the processor time is that of both sides.
func BenchmarkApplyOverHTTP(b *testing.B) {
	quiet := slog.New(slog.DiscardHandler)
	g := coordinator.New(coordinator.WithLogger(quiet))
	defer g.Close()
	if err := g.Register(coordinator.Provider{Name: "ibkr", BasePerSecond: 100, Burst: 10, FloorPerSecond: 1}); err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(httpapi.New(b.Context(), g, feedback.NewBus(quiet), quiet, access.Everyone()))
	defer server.Close()
	c, err := client.New(server.URL, server.Client())
	if err != nil {
		b.Fatal(err)
	}
	before, calls := processorTime(b), uint64(0)
	for b.Loop() {
		calls++
		if _, err := c.Apply(b.Context(), "ibkr", coordinator.ScaleRequest{
			Owner: coordinator.OwnerController, Holder: "a", Sequence: calls, Scale: 0.5, Level: pressure.Soft, Reason: "law", TTL: 15 * time.Second,
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/call")
}
