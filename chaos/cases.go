package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	_ "modernc.org/sqlite" // reads what the pipeline wrote

	"github.com/headgate/headgate/pressure"
)

// cases are all of them. How long something stays broken is chosen so that what
// it leads to is seen: longer than the lease where it is about leases, longer
// than the stale limit where it is about signals.
func cases() []Case {
	const full = "backpressure instead of loss; all is written once it is whole"
	return append([]Case{
		// The store.
		{Name: "store-latency", Holds: full, Break: spoilStore(8*time.Second, latency(300))},
		{Name: "store-bandwidth", Holds: full, Break: spoilStore(8*time.Second, bandwidth(4))},
		{Name: "store-slices", Holds: full, Break: spoilStore(6*time.Second, sliced(20))},
		{Name: "store-resets", Holds: "batches that were cut in the middle are written once", Break: spoilStore(8*time.Second, reset(40))},
		{Name: "store-black-hole", Holds: full, Break: spoilStore(10*time.Second, blackHole())},
		{Name: "store-half-open", Holds: full, Break: spoilStore(10*time.Second, halfOpen())},
		{Name: "store-refuses", Holds: full, Break: func(ctx context.Context, w *World) error {
			w.toStore.cut()
			return errors.Join(pause(ctx, 8*time.Second), w.toStore.mend())
		}},
		{Name: "store-flaps", Holds: "connections that come and go lose nothing", Break: func(ctx context.Context, w *World) error {
			for range 20 {
				w.toStore.cut()
				if err := errors.Join(pause(ctx, 100*time.Millisecond), w.toStore.mend(), pause(ctx, 300*time.Millisecond)); err != nil {
					return err
				}
			}
			return nil
		}},
		{Name: "store-locked", Loop: true, Holds: "the level rises to HARD, the provider is throttled, nothing is lost", Break: func(ctx context.Context, w *World) error {
			return w.sql(ctx, w.database(), func(conn *pgx.Conn) error {
				return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
					if _, err := tx.Exec(ctx, "LOCK TABLE items IN ACCESS EXCLUSIVE MODE"); err != nil {
						return err
					}
					return w.await(ctx, 40*time.Second, "the provider to be shut at HARD", func() bool {
						s := w.watch.last()
						return s.answered && s.state.Level == pressure.Hard && s.state.EffectivePerSecond <= 1
					})
				})
			})
		}},
		{Name: "store-backends-killed", Holds: "every connection ended by the server in mid-batch; nothing is lost or doubled", Break: func(ctx context.Context, w *World) error {
			return w.sql(ctx, w.database(), func(conn *pgx.Conn) error {
				for range 25 {
					if _, err := conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"); err != nil {
						return err
					}
					if err := pause(ctx, 200*time.Millisecond); err != nil {
						return err
					}
				}
				return nil
			})
		}},
		{Name: "store-read-only", Holds: "a store that refuses to write is waited for", Break: func(ctx context.Context, w *World) error {
			set := func(value string) error {
				return w.sql(ctx, "postgres", func(conn *pgx.Conn) error {
					_, err := conn.Exec(ctx, "ALTER DATABASE "+w.database()+" SET default_transaction_read_only = "+value)
					return err
				})
			}
			drop := func() error {
				return w.sql(ctx, "postgres", func(conn *pgx.Conn) error {
					_, err := conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", w.database())
					return err
				})
			}
			return errors.Join(set("on"), drop(), pause(ctx, 8*time.Second), set("off"), drop())
		}},
		{Name: "store-restarts", Holds: full, Alone: true, Break: func(ctx context.Context, w *World) error {
			for range 3 {
				w.store.Stop()
				if err := errors.Join(pause(ctx, time.Second), w.store.Restart(ctx), pause(ctx, 2*time.Second)); err != nil {
					return err
				}
			}
			return nil
		}},
		{Name: "store-hangs", Holds: full, Alone: true, Break: func(ctx context.Context, w *World) error {
			return stopFor(ctx, 10*time.Second, -w.store.PID()) // the whole group
		}},
		{Name: "store-full", Holds: "a full disk is waited for, and what was accepted is written when there is room", Alone: true,
			Change: func(s *Setup) { s.Sink = "sqlite" }, Break: fillDisk},
		{Name: "poison", Holds: "what the store will never take goes to the dead letters, alone", Break: func(ctx context.Context, w *World) error {
			return w.sql(ctx, w.database(), func(conn *pgx.Conn) error {
				if _, err := conn.Exec(ctx, `ALTER TABLE items ADD CONSTRAINT poison CHECK (key NOT LIKE '%7') NOT VALID`); err != nil {
					return err
				}
				if err := pause(ctx, 5*time.Second); err != nil {
					return err
				}
				_, err := conn.Exec(ctx, `ALTER TABLE items DROP CONSTRAINT poison`)
				return err
			})
		}},

		// Prometheus.
		{Name: "prometheus-killed", Loop: true, Scaler: true, Holds: "the fail mode once the signals are stale, Unavailable for KEDA", Break: func(ctx context.Context, w *World) error {
			if err := syscall.Kill(w.prometheus.PID(), syscall.SIGKILL); err != nil {
				return err
			}
			<-w.prometheus.Ended()
			return errors.Join(w.blind(ctx), w.startPrometheus(ctx))
		}},
		{Name: "prometheus-hangs", Loop: true, Scaler: true, Holds: "the fail mode once the signals are stale, Unavailable for KEDA", Break: func(ctx context.Context, w *World) error {
			pid := w.prometheus.PID()
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				return err
			}
			return errors.Join(w.blind(ctx), syscall.Kill(pid, syscall.SIGCONT))
		}},
		{Name: "prometheus-black-hole", Loop: true, Scaler: true, Holds: "the fail mode once the signals are stale, Unavailable for KEDA", Break: func(ctx context.Context, w *World) error {
			return errors.Join(w.toPrometheus.spoil(blackHole()), w.blind(ctx), w.toPrometheus.mend())
		}},
		{Name: "prometheus-slow", Loop: true, Scaler: true, Holds: "answers after the time-out count as none", Break: func(ctx context.Context, w *World) error {
			return errors.Join(w.toPrometheus.spoil(latency(3000)), w.blind(ctx), w.toPrometheus.mend())
		}},
		{Name: "prometheus-500", Loop: true, Scaler: true, Holds: "the fail mode once the signals are stale, Unavailable for KEDA", Break: lies(text(http.StatusInternalServerError, func([]byte) []byte { return []byte("down") }))},
		{Name: "prometheus-truncated", Loop: true, Scaler: true, Holds: "half an answer is none", Break: lies(text(http.StatusOK, func(was []byte) []byte { return was[:len(was)/2] }))},
		{Name: "prometheus-absurd", Loop: true, Scaler: true, Holds: "an answer of another form is none", Break: lies(text(http.StatusOK, func([]byte) []byte {
			return []byte(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"x"]]}]}}`)
		}))},
		{Name: "prometheus-empty", Loop: true, Scaler: true, Holds: "no series is not a depth of 0", Break: lies(samples(func([]sample) []sample { return []sample{} }))},
		{Name: "prometheus-nan", Loop: true, Scaler: true, Holds: "NaN is not a depth of 0", Break: lies(samples(func(all []sample) []sample {
			for i := range all {
				if strings.Contains(all[i].Metric["__name__"], "coordinator_") {
					all[i].Value[1] = "NaN"
				}
			}
			return all
		}))},
		{Name: "prometheus-doubled", Loop: true, Scaler: true, Calm: true, Holds: "series that are there twice do not open the gate", Break: stays(samples(func(all []sample) []sample { return append(all, all...) }))},
		{Name: "prometheus-thousands-more", Calm: true, Holds: "thousands of foreign series change nothing", Break: stays(samples(func(all []sample) []sample {
			for i := range 20_000 {
				all = append(all, sample{map[string]string{"__name__": "coordinator_queue_depth", "coordinator_id": fmt.Sprint("other-", i)}, all[0].Value})
			}
			return all
		}))},
		{Name: "prometheus-warns", Loop: true, Scaler: true, Calm: true, Holds: "warnings change nothing", Break: stays(text(http.StatusOK, func(was []byte) []byte {
			return []byte(strings.Replace(string(was), `"data":`, `"warnings":["half of the stores did not answer"],"data":`, 1))
		}))},
		{Name: "clock-minutes-ahead", Loop: true, Scaler: true, Calm: true, Holds: "a Prometheus whose clock is 7 minutes ahead changes nothing", Break: stays(shifted(7 * time.Minute))},
		{Name: "clock-minutes-behind", Loop: true, Scaler: true, Calm: true, Holds: "a Prometheus whose clock is 7 minutes behind changes nothing", Break: stays(shifted(-7 * time.Minute))},

		// Controllers.
		{Name: "controller-killed", Holds: "the other one takes over within a lease", Break: func(ctx context.Context, w *World) error {
			name, holds, _ := w.leader()
			killed := time.Now()
			holds.Kill()
			if err := w.takenOver(ctx, name, killed); err != nil {
				return err
			}
			return w.startController(name)
		}},
		{Name: "controller-pauses", Holds: "the other one takes over, and the one that wakes up changes nothing", Break: func(ctx context.Context, w *World) error {
			name, holds, _ := w.leader()
			paused := time.Now()
			if err := holds.Signal(syscall.SIGSTOP); err != nil {
				return err
			}
			err := w.takenOver(ctx, name, paused)
			woken := time.Now()
			if err := errors.Join(err, holds.Signal(syscall.SIGCONT), pause(ctx, 2*lease)); err != nil {
				return err
			}
			seens, _ := w.watch.since(woken)
			for _, s := range seens {
				if s.answered && s.holder() == name {
					return fmt.Errorf("%s holds the lease again %v after it woke up", name, s.at.Sub(woken))
				}
			}
			return nil
		}},
		{Name: "controllers-killed", Loop: true, Holds: "without any controller the lease ends in the fail mode", Break: func(ctx context.Context, w *World) error {
			for _, c := range w.loops() {
				c.Kill()
			}
			return errors.Join(w.failMode(ctx), w.startController("a"), w.startController("b"))
		}},
		{Name: "controller-cut-off", Holds: "the one that reaches the pipeline takes over", Break: func(ctx context.Context, w *World) error {
			name, _, _ := w.leader()
			cut := map[string]*link{"a": w.fromA, "b": w.fromB}[name]
			since := time.Now()
			cut.cut()
			return errors.Join(w.takenOver(ctx, name, since), cut.mend())
		}},
		{Name: "controllers-cut-off", Loop: true, Holds: "the lease ends in the fail mode, and controllers come back by themselves", Break: func(ctx context.Context, w *World) error {
			w.fromA.cut()
			w.fromB.cut()
			return errors.Join(w.failMode(ctx), w.fromA.mend(), w.fromB.mend())
		}},
		{Name: "controllers-half-open", Loop: true, Holds: "connections that swallow what is sent end in the fail mode", Break: func(ctx context.Context, w *World) error {
			return errors.Join(w.fromA.spoil(halfOpen()), w.fromB.spoil(halfOpen()), w.failMode(ctx), w.fromA.mend(), w.fromB.mend())
		}},
		{Name: "controllers-slow-link", Holds: "answers that are late do not let the lease run out in silence", Break: func(ctx context.Context, w *World) error {
			return errors.Join(w.fromA.spoil(latency(300)), w.fromB.spoil(latency(300)), pause(ctx, 8*time.Second), w.fromA.mend(), w.fromB.mend())
		}},

		// The pipeline itself.
		{Name: "pipeline-pauses", Loop: true, Holds: "time that stood still gives no more than the burst", Break: func(ctx context.Context, w *World) error {
			w.feed.expectTrouble()
			return stopFor(ctx, 8*time.Second, w.pipeline.PID())
		}},
		{Name: "pipeline-stops", Loop: true, Holds: "a stop under load drains the queue; a new one comes up in its fail mode and is let go", Break: func(ctx context.Context, w *World) error {
			w.feed.expectTrouble()
			if err := w.pipeline.Stop(40 * time.Second); err != nil {
				return err
			}
			w.watch.forget()
			return errors.Join(w.pipeline.Err(), w.startPipeline(ctx))
		}},
		{Name: "pipeline-killed", Loop: true, Holds: "what was written is there, and nothing twice; a new one is let go", Break: func(ctx context.Context, w *World) error {
			w.killPipeline()
			return w.startPipeline(ctx)
		}},
		{Name: "pipeline-before-store", Calm: true, Holds: "a pipeline that starts before its store is there waits for it", Break: func(ctx context.Context, w *World) error {
			w.toStore.cut()
			w.killPipeline()
			mended := make(chan error, 1)
			go func() { mended <- errors.Join(pause(ctx, 5*time.Second), w.toStore.mend()) }()
			return errors.Join(w.startPipeline(ctx), <-mended)
		}},
		{Name: "pipeline-killed-100-times", Holds: "100 kills at random moments: what was written is there, and nothing twice", Break: killAgainAndAgain(100)},

		// Clients.
		{Name: "scaler-flooded", Calm: true, Holds: "clients that connect and say nothing keep nobody out", Break: flood(func(w *World) string { return w.scalerAddress })},
		{Name: "scaler-streams", Calm: true, Holds: "thousands of streams whose clients never read keep nobody out", Break: floodStreams},
		{Name: "status-page-flooded", Calm: true, Holds: "hundreds who look at the status page, and do not read what they asked for, hold up no decision", Break: floodStatusPage},
		{Name: "pipeline-flooded", Calm: true, Holds: "clients that send one byte a second keep nobody out", Break: flood(func(w *World) string { return w.pipelineAddress })},
		{Name: "pipeline-big-bodies", Holds: "bodies beyond the limit are refused and cost nothing", Break: bigBodies},
	}, append(durableCases(), redisCases()...)...)
}

// spoilStore spoils the way to the store for a time.
func spoilStore(d time.Duration, toxics ...toxic) func(context.Context, *World) error {
	return func(ctx context.Context, w *World) error {
		return errors.Join(w.toStore.spoil(toxics...), pause(ctx, d), w.toStore.mend())
	}
}

// stopFor stops a process, or with a negative id a group of them, for a time.
func stopFor(ctx context.Context, d time.Duration, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	return errors.Join(pause(ctx, d), syscall.Kill(pid, syscall.SIGCONT))
}

// lies lets Prometheus answer otherwise until that was seen to be worth nothing.
func lies(forge func(*http.Response) error) func(context.Context, *World) error {
	return func(ctx context.Context, w *World) error {
		w.forger.lie(forge)
		err := w.blind(ctx)
		w.forger.honest()
		return err
	}
}

// stays lets Prometheus answer otherwise for two leases, in which nothing may
// change.
func stays(forge func(*http.Response) error) func(context.Context, *World) error {
	return func(ctx context.Context, w *World) error {
		began := time.Now()
		w.forger.lie(forge)
		err := pause(ctx, 2*lease)
		w.forger.honest()
		return errors.Join(err, w.undisturbed(began))
	}
}

// undisturbed reports the first time since then at which something was not as
// when all works.
func (w *World) undisturbed(began time.Time) error {
	seens, answers := w.watch.since(began)
	for _, s := range seens {
		if s.answered && s.depth < 500 && !s.normal() {
			return fmt.Errorf("with an empty queue the provider runs at %v/s, %.1f s in: %v", s.state.EffectivePerSecond, s.at.Sub(began).Seconds(), s)
		}
	}
	for _, a := range answers {
		if a.code != codes.OK {
			return fmt.Errorf("the scaler answers %v, %.1f s in", a.code, a.at.Sub(began).Seconds())
		}
	}
	return nil
}

// shifted are answers of a server with another clock.
func shifted(by time.Duration) func(*http.Response) error {
	return samples(func(all []sample) []sample {
		for i := range all {
			if t, is := all[i].Value[0].(float64); is {
				all[i].Value[0] = t + by.Seconds()
			}
			// The times of samples are values too.
			if part := all[i].Metric["headgate_part"]; part == "now" || strings.Contains(part, ":") {
				var v float64
				if _, err := fmt.Sscan(fmt.Sprint(all[i].Value[1]), &v); err == nil && v > 1e9 {
					all[i].Value[1] = fmt.Sprint(v + by.Seconds())
				}
			}
		}
		return all
	})
}

// blind waits until the signals are stale, and for as long again. Until then the
// last decision stands, and from then on the fail mode; the gate never opens
// further than both. The scaler says Unavailable in the end, never 0.
func (w *World) blind(ctx context.Context) error {
	if err := w.failMode(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, stale); err != nil {
		return err
	}
	seens, answers := w.watch.since(began)
	for _, s := range seens {
		if s.answered && s.state.EffectivePerSecond > base/2 {
			return fmt.Errorf("without signals the provider runs at %v/s", s.state.EffectivePerSecond)
		}
	}
	for _, a := range answers[len(answers)*3/4:] {
		if a.code != codes.Unavailable {
			return fmt.Errorf("without signals the scaler answers %v with %v, want Unavailable", a.code, a.depth)
		}
	}
	return nil
}

// failMode waits until the provider runs in its fail mode, at half its rate.
func (w *World) failMode(ctx context.Context) error {
	limit := stale + lease + 3*tick + 2*time.Second
	return w.await(ctx, limit, "the provider to run at half its rate", func() bool {
		s := w.watch.last()
		return s.answered && s.state.EffectivePerSecond <= base/2
	})
}

// takenOver waits until another controller holds the lease. Between the two the
// lease of the first one ends at most.
func (w *World) takenOver(ctx context.Context, from string, since time.Time) error {
	limit := lease + 3*tick
	if err := w.await(ctx, limit+5*time.Second, "the other controller to take over from "+from, func() bool {
		s := w.watch.last()
		return s.at.After(since) && s.answered && s.holder() != "" && s.holder() != from
	}); err != nil {
		return err
	}
	if took := time.Since(since); took > limit {
		return fmt.Errorf("the other controller took over after %v, want %v at most", took, limit)
	}
	return nil
}

// killAgainAndAgain kills the pipeline at random moments.
func killAgainAndAgain(times int) func(context.Context, *World) error {
	return func(ctx context.Context, w *World) error {
		random := rand.New(rand.NewPCG(7, 7))
		for range times {
			if err := pause(ctx, time.Duration(random.Int64N(int64(400*time.Millisecond)))); err != nil {
				return err
			}
			w.killPipeline()
			if err := w.startPipeline(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// sqliteRows counts in an SQLite file.
func sqliteRows(ctx context.Context, path, query string) (rows, distinct int, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, query).Scan(&rows, &distinct)
	return rows, distinct, err
}
