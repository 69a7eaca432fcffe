package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/redisserver"
	"github.com/headgate/headgate/internal/replicas"
	"github.com/headgate/headgate/pipeline/journal"
)

const (
	// ownShare is the part of the budget that each of the two pipelines has by
	// itself while the server is away.
	ownShare = 0.5

	// budgetLostWithin is how soon after the server is away a pipeline has its own
	// share: calls that get no answer, and the time in which the others may count on
	// what it drew. budgetSlowWithin is how soon where the answers come, but too late:
	// some of them are waited for first.
	budgetLostWithin, budgetSlowWithin = 5 * time.Second, 10 * time.Second

	// budgetBackWithin is how soon the budget is drawn from again once it can be: it
	// is tried every three seconds at most, and a try may fail on a busy machine.
	// Answers that came too late are tried again after ten seconds.
	budgetBackWithin, budgetSlowBackWithin = 10 * time.Second, 16 * time.Second
)

// redisCases break the server on which the provider's budget is kept. Another
// pipeline draws from the same budget, and wants all of it.
func redisCases() []Case {
	const share = "each pipeline has its own share of the budget meanwhile, and both together never more than the budget"
	shared := func(s *Setup) { s.SharedBudget, s.ItemsPerSecond = true, 150 }
	return []Case{
		{Name: "redis-killed", Holds: share, Change: shared, Break: func(ctx context.Context, w *World) error {
			w.budget.server.Kill()
			err := w.onOwnShares(ctx, budgetLostWithin, true)
			return errors.Join(err, w.budget.server.Restart(ctx), w.drawsAgain(ctx, budgetBackWithin))
		}},
		{Name: "redis-pauses", Holds: share, Change: shared, Break: func(ctx context.Context, w *World) error {
			pid := w.budget.server.PID()
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				return err
			}
			err := w.onOwnShares(ctx, budgetLostWithin, true)
			return errors.Join(err, syscall.Kill(pid, syscall.SIGCONT), w.drawsAgain(ctx, budgetBackWithin))
		}},
		{Name: "redis-black-hole", Holds: "a pipeline that cannot reach the budget has its share, and the other one the rest", Change: shared, Break: func(ctx context.Context, w *World) error {
			return errors.Join(w.toRedis.spoil(blackHole()), w.onOwnShares(ctx, budgetLostWithin, false), w.toRedis.mend(), w.drawsAgain(ctx, budgetBackWithin))
		}},
		{Name: "redis-refuses", Holds: "a pipeline that cannot reach the budget has its share, and the other one the rest", Change: shared, Break: func(ctx context.Context, w *World) error {
			w.toRedis.cut()
			return errors.Join(w.onOwnShares(ctx, budgetLostWithin, false), w.toRedis.mend(), w.drawsAgain(ctx, budgetBackWithin))
		}},
		{Name: "redis-slow", Holds: "answers that come later than a token may be used count as none", Change: shared, Break: func(ctx context.Context, w *World) error {
			return errors.Join(w.toRedis.spoil(latency(120)), w.onOwnShares(ctx, budgetSlowWithin, false), w.toRedis.mend(), w.drawsAgain(ctx, budgetSlowBackWithin))
		}},
		{Name: "redis-restarts-empty", Holds: "a server that comes back without the budget gives nothing away twice", Change: shared, Break: func(ctx context.Context, w *World) error {
			for range 5 {
				w.budget.server.Kill()
				if err := errors.Join(w.budget.server.Restart(ctx), w.drawsAgain(ctx, budgetBackWithin), pause(ctx, time.Second)); err != nil {
					return err
				}
			}
			return nil
		}},
	}
}

// sharedBudget is the server that keeps the provider's budget, and another
// pipeline that draws from it.
type sharedBudget struct {
	server *redisserver.Server
	other  *replicas.Fleet // of one
}

// startBudget starts both, and lets the pipeline that is to come draw there, too.
func (w *World) startBudget(ctx context.Context) (err error) {
	w.budget = &sharedBudget{}
	if w.budget.server, err = redisserver.Start(ctx, w.path("redis")); err != nil {
		return err
	}
	address := w.budget.server.Address
	if w.toRedis, err = newLink("redis", address); err != nil {
		return err
	}
	w.setup.Job["PROVIDERS_IBKR_REDIS_URL"] = "redis://" + w.toRedis.address()
	w.setup.Job["PROVIDERS_IBKR_INITIAL_SHARE"] = fmt.Sprint(ownShare)
	if err := os.Mkdir(w.path("other"), 0o755); err != nil {
		return err
	}
	w.budget.other, err = replicas.New(replicas.Config{
		Binary: w.bins.pipeline, Dir: w.path("other"), Most: 1,
		BasePerSecond: base, Burst: burst, InitialShare: ownShare, RedisURL: "redis://" + address,
	})
	if err != nil {
		return err
	}
	return w.budget.other.Scale(1)
}

// onOwnShares waits until the pipeline has its own share of the budget, and the
// other one too where both lost it, and lets them have it for some seconds.
func (w *World) onOwnShares(ctx context.Context, limit time.Duration, both bool) error {
	others := coordinator.SharedConnected
	if both {
		others = coordinator.SharedOwnShare
	}
	if err := errors.Join(
		w.await(ctx, limit, "the pipeline to have its own share", func() bool {
			return w.standsTo(coordinator.SharedOwnShare) && w.watch.last().state.EffectivePerSecond == ownShare*base
		}),
		w.othersStand(ctx, others, limit),
	); err != nil {
		return err
	}
	before, err := w.granted(ctx)
	if err := errors.Join(err, pause(ctx, 4*time.Second)); err != nil {
		return err
	}
	after, err := w.granted(ctx)
	if err != nil {
		return err
	}
	for i, name := range []string{"the pipeline", "the other one"} {
		if after[i] == before[i] {
			return fmt.Errorf("without the server %s lets nothing through", name)
		}
	}
	return nil
}

// drawsAgain waits until both draw from the budget.
func (w *World) drawsAgain(ctx context.Context, limit time.Duration) error {
	return errors.Join(
		w.await(ctx, limit, "the pipeline to draw from the budget", func() bool { return w.standsTo(coordinator.SharedConnected) }),
		w.othersStand(ctx, coordinator.SharedConnected, limit),
	)
}

// standsTo reports whether the pipeline stands so to the budget that is shared.
func (w *World) standsTo(state coordinator.SharedState) bool {
	s := w.watch.last()
	return s.answered && s.state.Shared != nil && s.state.Shared.State == state
}

// othersStand waits until the other pipeline stands so to it.
func (w *World) othersStand(ctx context.Context, state coordinator.SharedState, limit time.Duration) error {
	return w.budget.other.Await(ctx, limit, "are "+string(state), func(states []coordinator.State) bool {
		return len(states) == 1 && states[0].Shared != nil && states[0].Shared.State == state
	})
}

// granted is how many tokens both have given away.
func (w *World) granted(ctx context.Context) (tokens [2]uint64, err error) {
	states, _ := w.budget.other.States(ctx)
	if len(states) != 1 {
		return tokens, errors.New("the other pipeline does not answer")
	}
	return [2]uint64{w.watch.last().state.Granted, states[0].Granted}, nil
}

// audit is in how many seconds both together gave more than the budget and the
// burst: one where they ever did, for it is one bucket. The journals are whole.
func (b *sharedBudget) audit(own []string) (overSeconds int, err error) {
	all, err := b.other.Ledger()
	mine, readErr := journal.ReadAll(provider, own...)
	if err := errors.Join(err, readErr); err != nil {
		return 0, err
	}
	all = journal.Merge(all, mine)
	if beyond, at := all.Beyond(base); beyond > burst {
		return 1, fmt.Errorf("%.1f items more than the budget passed, want no more than the burst of %d: until %s", beyond, burst, at.Format(time.StampMilli))
	}
	return 0, nil
}

// close ends both.
func (b *sharedBudget) close() error {
	var err error
	if b.other != nil {
		err = b.other.Close()
	}
	if b.server != nil {
		_ = b.server.Signal(syscall.SIGCONT)
		b.server.Kill()
	}
	return err
}
