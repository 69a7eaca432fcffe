package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const mixedName = "mixed"

// mixed breaks one thing after another at random, for as long as asked. After
// each all has to come back to normal, and in the end no process may have grown.
func mixed(random *rand.Rand, lasts time.Duration) Case {
	var pool []Case
	for _, c := range cases() {
		if c.Change == nil && !strings.Contains(c.Name, "100") && c.Name != "poison" {
			pool = append(pool, c)
		}
	}
	return Case{Name: mixedName, Holds: "whatever comes, in whatever order", Break: func(ctx context.Context, w *World) error {
		until := time.Now().Add(lasts)
		var before map[string]usage
		for n := 0; time.Now().Before(until); n++ {
			c := pool[random.IntN(len(pool))]
			w.say("%d: %s", n, c.Name)
			begin := time.Now()
			if err := c.Break(ctx, w); err != nil {
				return fmt.Errorf("%s, fault %d: %w", c.Name, n, err)
			}
			late, err := w.recover(ctx)
			if err == nil && late > 0 {
				err = fmt.Errorf("back to normal %v too late", late)
			}
			if err != nil {
				return fmt.Errorf("after %s, fault %d: %w", c.Name, n, err)
			}
			fmt.Fprintf(os.Stderr, "headgate: mixed: %3d %-28s %5.1f s\n", n, c.Name, time.Since(begin).Seconds())
			if err := pause(ctx, time.Duration(random.Int64N(int64(3*time.Second)))); err != nil {
				return err
			}
			if n == 4 {
				before = w.usage() // warm by now
			}
		}
		return w.grown(before)
	}}
}

// usage is what a process holds.
type usage struct {
	pid      int
	files    int
	resident int64 // bytes
}

// usage is that of the scaler and the pipeline and the controllers.
func (w *World) usage() map[string]usage {
	all := map[string]usage{}
	for name, pid := range map[string]int{"pipeline": w.pipeline.PID(), "a": w.a.PID(), "b": w.b.PID(), "scaler": w.scaler.PID()} {
		proc := filepath.Join("/proc", strconv.Itoa(pid))
		files, _ := os.ReadDir(filepath.Join(proc, "fd"))
		u := usage{pid: pid, files: len(files)}
		if statm, err := os.ReadFile(filepath.Join(proc, "statm")); err == nil {
			if fields := strings.Fields(string(statm)); len(fields) > 1 {
				pages, _ := strconv.ParseInt(fields[1], 10, 64)
				u.resident = pages * int64(os.Getpagesize())
			}
		}
		all[name] = u
	}
	return all
}

const (
	moreFiles  = 40
	moreMemory = 64 << 20 // bytes
)

// grown says which processes hold much more than before. One that was started
// anew since is not compared.
func (w *World) grown(before map[string]usage) error {
	for name, now := range w.usage() {
		was, is := before[name]
		if !is || was.pid != now.pid {
			continue
		}
		w.say("%s: %d files were %d, %d KiB were %d", name, now.files, was.files, now.resident>>10, was.resident>>10)
		if now.files > was.files+moreFiles || now.resident > was.resident+moreMemory {
			return fmt.Errorf("%s has grown from %d files and %d KiB to %d and %d", name, was.files, was.resident>>10, now.files, now.resident>>10)
		}
	}
	return nil
}
