package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/headgate/headgate/coordinator"
)

func waitersGroup() group {
	return group{
		name: "waiters",
		about: "So many calls wait for a token while the rate is 0, then it rises to its base, which serves them in two seconds. " +
			"Within three seconds all must have come through, and no second may see more than the base rate and the burst. " +
			"x/time/rate does the same with SetLimit.",
		measure: func(ctx context.Context, _ int) ([]Row, error) {
			var rows []Row
			var costs []float64
			sizes := []int{1_000, 10_000, 100_000}
			for _, n := range sizes {
				more, cpu, err := measureWaiters(ctx, n)
				if err != nil {
					return nil, err
				}
				rows, costs = append(rows, more...), append(costs, cpu.Seconds())
			}
			rows[len(rows)-1].note = "processor time in all, " + growth(sizes, costs)
			return rows, nil
		},
	}
}

const wakeLimit = 3 * time.Second

func measureWaiters(ctx context.Context, n int) (rows []Row, cpu time.Duration, err error) {
	perSecond, burst := float64(n)/2, n/50
	times, cpu, err := wakeOurs(ctx, n, perSecond, burst)
	if err != nil {
		return nil, 0, err
	}
	theirs, err := wakeTheirs(ctx, n, perSecond, burst)
	if err != nil {
		return nil, 0, err
	}
	size := fmt.Sprintf("%v waiters, rate 0 -> base", Figure(n))
	served := atLeast(1).against(size+": served", "waiters", "x/time/rate WaitN", float64(len(times)), float64(theirs))
	served.Bar, served.Holds = "all", len(times) == n
	served.note = fmt.Sprintf("%.1f µs of processor time a waiter", cpu.Seconds()*1e6/float64(n))
	worst := atMost(1).against(size+": worst second", "tokens", "base + burst", float64(mostInASecond(times)), perSecond+float64(burst))
	return []Row{served, worst}, cpu, nil
}

// wakeOurs lets n calls wait at scale 0 and raises it. It returns when each got
// its token, as the gate tells its observer, and the processor time that it
// took.
func wakeOurs(ctx context.Context, n int, perSecond float64, burst int) (granted []time.Time, cpu time.Duration, err error) {
	c := coordinator.New(coordinator.WithGrantObserver(func(g coordinator.Grant) { granted = append(granted, g.At) }))
	if err := c.Register(coordinator.Provider{Name: provider, BasePerSecond: perSecond, Burst: burst}); err != nil {
		return nil, 0, err
	}
	c.SetScale(provider, 0)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	var served atomic.Int64
	for range n {
		all.Go(func() {
			if c.Acquire(ctx, provider, 1) == nil {
				served.Add(1)
			}
		})
	}
	for {
		state, err := c.State(provider)
		if err != nil {
			return nil, 0, err
		}
		if state.Waiters == n {
			break
		}
		time.Sleep(time.Millisecond)
	}
	before := processorTime()
	limit := time.AfterFunc(wakeLimit, cancel)
	defer limit.Stop()
	c.SetScale(provider, 1)
	all.Wait()
	cpu = processorTime() - before
	c.Close()
	if int(served.Load()) != len(granted) {
		return nil, 0, fmt.Errorf("%d calls came through, but the gate tells of %d", served.Load(), len(granted))
	}
	return granted, cpu, nil
}

// wakeTheirs does the same with x/time/rate and returns how many came through.
func wakeTheirs(ctx context.Context, n int, perSecond float64, burst int) (served int64, err error) {
	l := rate.NewLimiter(0, burst)
	l.AllowN(time.Now(), burst)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	var waiting, through atomic.Int64
	for range n {
		all.Go(func() {
			waiting.Add(1)
			if l.WaitN(ctx, 1) == nil {
				through.Add(1)
			}
		})
	}
	for waiting.Load() < int64(n) {
		time.Sleep(time.Millisecond)
	}
	limit := time.AfterFunc(wakeLimit, cancel)
	defer limit.Stop()
	l.SetLimit(rate.Limit(perSecond))
	all.Wait()
	return through.Load(), nil
}

// mostInASecond is how many of the times, which are in order, lie within one
// second at most.
func mostInASecond(times []time.Time) (most int) {
	first := 0
	for i, t := range times {
		for t.Sub(times[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
