package coordinator

import (
	"context"
	"testing"
)

// BenchmarkAcquire measures calls that need not wait. What other rate limiters
// need for the same is measured in the module bench.
func BenchmarkAcquire(b *testing.B) {
	plenty := Provider{Name: "plenty", BasePerSecond: 1e12, Burst: 1 << 40}
	other := plenty
	other.Name = "other"
	few := Provider{Name: "few", BasePerSecond: 1e-9, Burst: 1}
	c := New()
	defer c.Close()
	for _, p := range []Provider{plenty, other, few} {
		if err := c.Register(p); err != nil {
			b.Fatal(err)
		}
	}
	ctx := context.Background()
	for _, bench := range []struct {
		name        string
		parallelism int // goroutines a core
		do          func()
	}{
		{"granted", 1, func() { _ = c.Acquire(ctx, "plenty", 1) }},
		{"granted by one of several", 1, func() { _ = c.Acquire(ctx, "other", 1) }},
		{"granted in bulk", 1, func() { _ = c.Acquire(ctx, "plenty", 100) }},
		{"granted to 8 goroutines a core", 8, func() { _ = c.Acquire(ctx, "plenty", 1) }},
		{"no tokens", 1, func() { _ = c.TryAcquire("few", 1) }},
		{"above the burst", 1, func() { _ = c.Acquire(ctx, "few", 2) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			if bench.parallelism == 1 {
				for b.Loop() {
					bench.do()
				}
				return
			}
			b.SetParallelism(bench.parallelism)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					bench.do()
				}
			})
		})
	}
}
