package redisbudget

import (
	"context"
	"testing"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/redistest"
)

// A draw beside the least that any call of the server takes.
func BenchmarkDraw(b *testing.B) {
	server := redistest.Start(b)
	ctx := context.Background()
	budget, err := New(Config{URL: server.URL(), Key: "ibkr", BasePerSecond: 1e6, Burst: 1e6})
	if err != nil {
		b.Fatal(err)
	}
	defer budget.Close()
	b.Run("draw", func(b *testing.B) {
		for b.Loop() {
			if _, err := budget.Draw(ctx, coordinator.Draw{Need: 1, Want: 10, Share: 1}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("TIME", func(b *testing.B) {
		for b.Loop() {
			if err := budget.Reach(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}
