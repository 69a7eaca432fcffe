package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/headgate/headgate/internal/process"
)

// durableCases are those of a pipeline whose queue outlives it. In them nothing
// that was accepted may be missing, whoever is killed.
func durableCases() []Case {
	embedded := func(s *Setup) {
		s.Durable = true
		s.Job["DAG_NODES_QUEUE_DURABLE"] = "embedded"
		s.Job["DAG_NODES_QUEUE_DURABLE_DIRECTORY"] = "queue"
		s.Job["DAG_NODES_QUEUE_DURABLE_REDELIVER_AFTER"] = "2s"
	}
	small := func(s *Setup) {
		embedded(s)
		s.SmallDisk = true
		s.Job["DAG_NODES_QUEUE_DURABLE_DIRECTORY"] = "disk/queue"
	}
	writers := func(s *Setup) {
		embedded(s)
		s.Writers = 2
	}
	return []Case{
		{Name: "durable-killed", Change: embedded, Holds: "what was accepted into a durable queue is written by the next pipeline, once", Break: func(ctx context.Context, w *World) error {
			w.toStore.cut() // so that much waits
			if err := errors.Join(pause(ctx, 3*time.Second), w.toStore.mend()); err != nil {
				return err
			}
			w.killPipeline()
			return w.startPipeline(ctx)
		}},
		{Name: "durable-killed-100-times", Change: embedded, Holds: "100 kills at random moments: all that was accepted is there, and nothing twice", Break: killAgainAndAgain(100)},
		{Name: "durable-store-refuses", Change: embedded, Holds: "backpressure by the durable queue; all is written once it is whole", Break: func(ctx context.Context, w *World) error {
			w.toStore.cut()
			return errors.Join(pause(ctx, 8*time.Second), w.toStore.mend())
		}},
		{Name: "durable-full", Change: small, Alone: true, Holds: "a full disk under the queue refuses what is new, and loses nothing; it is let go when there is room", Break: func(ctx context.Context, w *World) error {
			filler := w.path("disk/filler")
			if err := fill(filler); err != nil {
				return err
			}
			return errors.Join(pause(ctx, 10*time.Second), os.Remove(filler))
		}},
		{Name: "durable-writer-killed", Change: writers, Holds: "the other writer of the queue takes over what a killed one had in its hands", Break: func(ctx context.Context, w *World) error {
			for range 5 {
				w.writers[0].Kill()
				if err := errors.Join(pause(ctx, time.Second), w.startWriter(0), pause(ctx, 2*time.Second)); err != nil {
					return err
				}
			}
			return nil
		}},
		{Name: "durable-writer-pauses", Change: writers, Holds: "a writer that stands still holds up nobody, and what it writes late is there already", Break: func(ctx context.Context, w *World) error {
			return stopFor(ctx, 8*time.Second, w.writers[0].PID())
		}},
	}
}

// startWriter starts a process that writes what the pipeline accepts.
func (w *World) startWriter(n int) (err error) {
	listen, err := process.FreeAddress()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("writer-%d", n)
	env := []string{
		"HEADGATE_JOB_METRICS_LISTEN=" + listen, "HEADGATE_JOB_DAG_NODES_QUEUE_DURABLE=nats", "HEADGATE_JOB_DAG_NODES_QUEUE_DURABLE_PART=write",
		"HEADGATE_JOB_DAG_NODES_QUEUE_DURABLE_URL=nats://" + w.queueAddress, "HEADGATE_JOB_DAG_NODES_QUEUE_DURABLE_REDELIVER_AFTER=2s",
		"HEADGATE_JOB_DAG_NODES_QUEUE_DEAD_LETTER_PATH=" + name + "-dead.ndjson",
	}
	w.writers[n], err = process.Start(process.Spec{
		Name: name, Binary: w.bins.pipeline, Args: []string{"run", w.path("job.yaml"), "--summary", w.path(name + ".json")}, Env: env, Log: w.dir,
	})
	return err
}

// startWriters starts all that the case has.
func (w *World) startWriters() error {
	w.writers = make([]*process.Process, w.setup.Writers)
	for n := range w.writers {
		if err := w.startWriter(n); err != nil {
			return err
		}
	}
	return nil
}

// durableSummary is what a pipeline says of its durable queue.
type durableSummary struct {
	Found int `json:"found"`
}

// countDurable holds what was accepted against what is in the store, whoever was
// killed. What had no answer may be there too.
func (w *World) countDurable(t Tally, fed fed, rows, distinct, deadLettered int) (Tally, error) {
	t.Duplicated = rows - distinct
	t.Lost = max(0, fed.accepted-distinct-deadLettered)
	var errs []error
	if distinct+deadLettered > fed.accepted+fed.unknown {
		errs = append(errs, fmt.Errorf("%d rows and %d dead letters, and only %d items were sent", distinct, deadLettered, fed.accepted+fed.unknown))
	}
	for n := range w.writers {
		data, err := os.ReadFile(w.path(fmt.Sprintf("writer-%d.json", n)))
		var s summary
		if err == nil {
			err = json.Unmarshal(data, &s)
		}
		if err == nil && !s.Conserved {
			err = fmt.Errorf("the counts of writer %d do not add up: %+v", n, s)
		}
		errs = append(errs, err)
	}
	w.say("%d items were said to be taken and of %d nothing is known; %d rows are there", fed.accepted, fed.unknown, rows)
	return t, errors.Join(errs...)
}

// stopWriters ends the writers in good order.
func (w *World) stopWriters() error {
	for _, p := range w.writers {
		if err := p.Stop(40 * time.Second); err != nil {
			return err
		}
		if p.Err() != nil {
			return fmt.Errorf("%s ended badly (%w), see %s", p.Name, p.Err(), p.LogPath)
		}
	}
	return nil
}

// killWriters ends whatever is left of them.
func (w *World) killWriters() {
	for _, p := range w.writers {
		if p != nil {
			_ = p.Signal(syscall.SIGCONT)
			p.Kill()
		}
	}
}
