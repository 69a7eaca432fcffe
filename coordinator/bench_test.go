package coordinator

import (
	"context"
	"testing"
)

func BenchmarkAcquire(b *testing.B) {
	run := func(name string, p Provider, parallelism int, n int) {
		b.Run(name, func(b *testing.B) {
			c := New()
			defer c.Close()
			if err := c.Register(p); err != nil {
				b.Fatal(err)
			}
			ctx := context.Background()
			b.ReportAllocs()
			if parallelism == 1 {
				for b.Loop() {
					c.Acquire(ctx, p.Name, n)
				}
				return
			}
			b.SetParallelism(parallelism)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c.Acquire(ctx, p.Name, n)
				}
			})
		})
	}
	plenty := Provider{Name: "plenty", BasePerSecond: 1e12, Burst: 1 << 40}
	run("granted", plenty, 1, 1)
	run("granted by 8 goroutines a core", plenty, 8, 1)
	few := ibkr()
	run("refused", few, 1, few.Burst+1)
}
