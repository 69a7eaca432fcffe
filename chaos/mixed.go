package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/exposition"
	"github.com/headgate/headgate/internal/process"
)

const mixedName = "mixed"

// mixed breaks one thing after another at random, and often the store beside
// something else, for as long as asked. After each all has to come back to normal,
// and in the end no process may have grown.
func mixed(random *rand.Rand, lasts time.Duration) Case {
	var stores, others []Case
	for _, c := range cases() {
		switch {
		case c.Change != nil || strings.Contains(c.Name, "100") || c.Name == "poison":
		case strings.HasPrefix(c.Name, "store-"):
			stores = append(stores, c)
		default:
			others = append(others, c)
		}
	}
	choose := func() []Case {
		store, other := stores[random.IntN(len(stores))], others[random.IntN(len(others))]
		switch n := random.IntN(4); {
		case n == 0:
			return []Case{store}
		case n == 1 || other.Calm:
			return []Case{other}
		}
		return []Case{store, other}
	}
	return Case{Name: mixedName, Holds: "whatever comes, in whatever order", Break: func(ctx context.Context, w *World) error {
		until := time.Now().Add(lasts)
		var before map[string]usage
		for n := 0; time.Now().Before(until); n++ {
			chosen := choose()
			name := chosen[0].Name
			if len(chosen) > 1 {
				name += " and " + chosen[1].Name
			}
			w.say("%d: %s", n, name)
			begin := time.Now()
			if err := atOnce(ctx, w, chosen); err != nil {
				return fmt.Errorf("fault %d, %s: %w", n, name, err)
			}
			late, err := w.recover(ctx)
			if err == nil && late > 0 {
				err = fmt.Errorf("back to normal %v too late", late)
			}
			if err != nil {
				return fmt.Errorf("after fault %d, %s: %w", n, name, err)
			}
			fmt.Fprintf(os.Stderr, "headgate: mixed: %3d %5.1f s  %s\n", n, time.Since(begin).Seconds(), name)
			if err := pause(ctx, time.Duration(random.Int64N(int64(3*time.Second)))); err != nil {
				return err
			}
			if n == warm {
				if before, err = w.usage(ctx); err != nil {
					return err
				}
			}
		}
		return w.grown(ctx, before)
	}}
}

// warm is after how many faults everything has its size.
const warm = 8

// atOnce breaks several things beside one another.
func atOnce(ctx context.Context, w *World, chosen []Case) error {
	errs := make([]error, len(chosen))
	var all sync.WaitGroup
	for i, c := range chosen {
		all.Go(func() { errs[i] = c.Break(ctx, w) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// usage is what a process holds.
type usage struct {
	pid        int
	files      int
	goroutines int
	resident   int64 // bytes
}

// usage is that of the scaler and the pipeline and the controllers.
func (w *World) usage(ctx context.Context) (map[string]usage, error) {
	all := map[string]usage{}
	for name, p := range map[string]struct {
		*process.Process
		address string
	}{
		"pipeline": {w.pipeline, w.pipelineAddress}, "a": {w.a, w.addressA}, "b": {w.b, w.addressB}, "scaler": {w.scaler, w.scalerHTTP},
	} {
		families, err := exposition.Read(ctx, http.DefaultClient, "http://"+p.address+"/metrics")
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", name, err)
		}
		all[name] = usage{
			pid: p.PID(), files: int(families.Sum("process_open_fds")),
			goroutines: int(families.Sum("go_goroutines")), resident: int64(families.Sum("process_resident_memory_bytes")),
		}
	}
	return all, nil
}

// How much more than before is no growth: connections come and go, and memory
// that was freed is given back late.
const (
	moreFiles      = 40
	moreGoroutines = 60
	moreMemory     = 48 << 20 // bytes
)

// grown says which processes hold much more than before. One that was started
// anew since is not compared.
func (w *World) grown(ctx context.Context, before map[string]usage) error {
	after, err := w.usage(ctx)
	if err != nil {
		return err
	}
	for name, now := range after {
		was, is := before[name]
		w.say("%s: %+v, and before %+v", name, now, was)
		if !is || was.pid != now.pid {
			continue
		}
		if now.files > was.files+moreFiles || now.goroutines > was.goroutines+moreGoroutines || now.resident > was.resident+moreMemory {
			return fmt.Errorf("%s has grown from %+v to %+v", name, was, now)
		}
	}
	return nil
}
