package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/ratelimiter"
	uber "go.uber.org/ratelimit"
	"golang.org/x/time/rate"

	"github.com/headgate/headgate/coordinator"
)

const provider = "ibkr"

func acquireGroup() group {
	return group{
		name: "acquire",
		about: "One call for one token. The limiters are told to let more through than any of them can, so that nobody waits; " +
			"Headgate looks its provider up by name and counts the grant for its series each time, the others have one limiter. " +
			"For a refusal the bucket is empty and fills hardly.",
		measure: measureAcquire,
	}
}

// newGate is a coordinator with one provider.
func newGate(b *testing.B, perSecond float64, burst int) *coordinator.Coordinator {
	c := coordinator.New()
	b.Cleanup(c.Close)
	if err := c.Register(coordinator.Provider{Name: provider, BasePerSecond: perSecond, Burst: burst}); err != nil {
		b.Fatal(err)
	}
	return c
}

const (
	plentyPerSecond = 1e9
	plentyBurst     = 1 << 30
	hardlyPerSecond = 1e-6
)

func measureAcquire(ctx context.Context, rounds int) ([]Row, error) {
	single, err := byTurns(ctx, rounds,
		contender{"headgate", func(b *testing.B) {
			c := newGate(b, plentyPerSecond, plentyBurst)
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Acquire(ctx, provider, 1); err != nil {
					b.Fatal(err)
				}
			}
		}},
		contender{"x/time/rate", func(b *testing.B) {
			l := rate.NewLimiter(plentyPerSecond, plentyBurst)
			for b.Loop() {
				if !l.AllowN(time.Now(), 1) {
					b.Fatal("refused")
				}
			}
		}},
	)
	if err != nil {
		return nil, err
	}
	ours, theirs := medianRound(single, 0, 1)
	granted := atMost(0.40).against("acquire, granted, 1 goroutine", "ns/op", "x/time/rate AllowN", ours.nsPerOp, theirs.nsPerOp)
	granted.note = fmt.Sprintf("%d allocations", ours.allocsPerOp)
	granted.Bar += ", 0 allocations"
	granted.Holds = granted.Holds && ours.allocsPerOp == 0
	rows := []Row{granted}

	const goroutines = 8
	peers := []contender{
		{"headgate", func(b *testing.B) {
			c := newGate(b, plentyPerSecond, plentyBurst)
			b.ResetTimer()
			inParallel(goroutines, b.N, func() { _ = c.Acquire(ctx, provider, 1) })
		}},
		{"x/time/rate AllowN", func(b *testing.B) {
			l := rate.NewLimiter(plentyPerSecond, plentyBurst)
			inParallel(goroutines, b.N, func() { l.AllowN(time.Now(), 1) })
		}},
		{"uber-go/ratelimit Take", func(b *testing.B) {
			l := uber.New(plentyPerSecond)
			inParallel(goroutines, b.N, func() { l.Take() })
		}},
		{"failsafe-go TryAcquirePermit", func(b *testing.B) {
			l := ratelimiter.NewBursty[any](plentyBurst, time.Second)
			inParallel(goroutines, b.N, func() { l.TryAcquirePermit() })
		}},
	}
	many, err := byTurns(ctx, rounds, peers...)
	if err != nil {
		return nil, err
	}
	for i, peer := range peers[1:] {
		ours, theirs := medianRound(many, 0, i+1)
		rows = append(rows, below(1).against("acquire, granted, 8 goroutines on one provider", "ns/op", peer.name, ours.nsPerOp, theirs.nsPerOp))
	}

	refused, err := byTurns(ctx, rounds,
		contender{"headgate", func(b *testing.B) {
			c := newGate(b, hardlyPerSecond, 1)
			_ = c.TryAcquire(provider, 1)
			for b.Loop() {
				if c.TryAcquire(provider, 1) == nil {
					b.Fatal("granted")
				}
			}
		}},
		contender{"x/time/rate", func(b *testing.B) {
			l := rate.NewLimiter(hardlyPerSecond, 1)
			l.Allow()
			for b.Loop() {
				if l.AllowN(time.Now(), 1) {
					b.Fatal("granted")
				}
			}
		}},
	)
	if err != nil {
		return nil, err
	}
	ours, theirs = medianRound(refused, 0, 1)
	return append(rows, atMost(0.35).against("acquire, refused", "ns/op", "x/time/rate AllowN", ours.nsPerOp, theirs.nsPerOp)), nil
}
