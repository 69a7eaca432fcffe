package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/config"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/internal/promserver"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
)

func tickGroup() group {
	return group{
		name: "tick",
		about: fmt.Sprintf("One tick of the controller: its one query, all laws and guards, and leases handed to coordinators that answer at once. A real Prometheus holds all series of all targets. "+
			"The peer asks the same Prometheus for the depth of each target, one query a target as KEDA's Prometheus scaler does, %d at once over kept connections. "+
			"Processor time is that of the Prometheus process.", askers),
		measure: measureTicks,
	}
}

// askers is how many queries the peer has under way at once.
const askers = 16

func measureTicks(ctx context.Context, _ int) (rows []Row, err error) {
	binary, err := promserver.Find()
	if err != nil {
		return nil, err
	}
	fleets := []int{100, 1_000, 10_000}
	held, err := hold(ctx, binary, fleets)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, held.stop()) }()
	var walls, cpus []float64
	for _, targets := range fleets {
		ours, err := held.undisturbed(ctx, func() (cost, error) { return tickCost(ctx, held.server, targets) })
		if err != nil {
			return nil, fmt.Errorf("%d targets: %w", targets, err)
		}
		theirs, err := held.undisturbed(ctx, func() (cost, error) { return askCost(ctx, held.server, targets) })
		if err != nil {
			return nil, fmt.Errorf("%d targets, one by one: %w", targets, err)
		}
		name := fmt.Sprintf("controller tick, %v targets", Figure(targets))
		millis := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
		rows = append(rows,
			atMost(1./50).against(name+": Prometheus' processor time", "ms", "one query per target", millis(ours.cpu), millis(theirs.cpu)),
			atMost(1./20).against(name+": wall time", "ms", "one query per target", millis(ours.wall), millis(theirs.wall)))
		cpus, walls = append(cpus, ours.cpu.Seconds()), append(walls, ours.wall.Seconds())
	}
	rows[len(rows)-2].note, rows[len(rows)-1].note = growth(fleets, cpus), growth(fleets, walls)
	return rows, nil
}

// cost is what one look at all targets takes.
type cost struct{ wall, cpu time.Duration }

// coordinatorID names a target of a fleet of that size.
func coordinatorID(fleet, i int) string { return fmt.Sprintf("bars-%d-%05d", fleet, i) }

// held is a Prometheus that has scraped the series of several fleets.
type held struct {
	server   *promserver.Server
	exporter *httptest.Server
	dir      string

	mu      sync.Mutex
	scrapes int
	last    time.Time
}

const (
	// Between two scrapes there is time to measure without one.
	scrapeInterval = time.Minute
	quietTime      = 45 * time.Second
)

// hold starts a Prometheus and waits until it has scraped all fleets.
func hold(ctx context.Context, binary string, fleets []int) (_ *held, err error) {
	h := &held{}
	var text bytes.Buffer
	for _, series := range []struct {
		name, kind string
		value      func(i int) int
	}{
		{metrics.QueueDepth, "gauge", func(i int) int { return i % 10_000 }},
		{metrics.QueueCapacity, "gauge", func(int) int { return 10_000 }},
		{metrics.BackpressureSoft, "gauge", func(int) int { return 0 }},
		{metrics.BackpressureHard, "gauge", func(int) int { return 0 }},
		{metrics.ItemsAccepted, "counter", func(i int) int { return 1_000_000 + i }},
		{metrics.ItemsWritten, "counter", func(int) int { return 1_000_000 }},
		{metrics.ItemsDropped, "counter", func(int) int { return 0 }},
	} {
		fmt.Fprintf(&text, "# TYPE %s %s\n", series.name, series.kind)
		for _, fleet := range fleets {
			for i := range fleet {
				fmt.Fprintf(&text, "%s{%s=%q,fleet=\"%d\"} %d\n", series.name, metrics.LabelCoordinatorID, coordinatorID(fleet, i), fleet, series.value(i))
			}
		}
	}
	h.exporter = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write(text.Bytes())
		h.mu.Lock()
		defer h.mu.Unlock()
		h.scrapes, h.last = h.scrapes+1, time.Now()
	}))
	defer func() {
		if err != nil {
			err = errors.Join(err, h.stop())
		}
	}()
	if h.dir, err = os.MkdirTemp("", "bench-prometheus-"); err != nil {
		return nil, err
	}
	h.server, err = promserver.Start(ctx, promserver.Config{
		Binary: binary, Dir: h.dir, Interval: scrapeInterval,
		Scrapes: []promserver.Scrape{{Job: "bars", Targets: []string{strings.TrimPrefix(h.exporter.URL, "http://")}}},
	})
	if err != nil {
		return nil, err
	}
	for n, _ := h.scraped(); n == 0; n, _ = h.scraped() {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// stop ends everything that hold began.
func (h *held) stop() error {
	var err error
	if h.server != nil {
		err = h.server.Stop()
	}
	h.exporter.Close()
	return errors.Join(err, os.RemoveAll(h.dir))
}

func (h *held) scraped() (scrapes int, last time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.scrapes, h.last
}

// undisturbed measures while nothing is scraped.
func (h *held) undisturbed(ctx context.Context, measure func() (cost, error)) (cost, error) {
	const settling = 3 * time.Second
	for range 3 {
		before, last := h.scraped()
		if early := settling - time.Since(last); early > 0 {
			if err := pause(ctx, early); err != nil {
				return cost{}, err
			}
		}
		if time.Since(last) > scrapeInterval-quietTime {
			for n := before; n == before; n, _ = h.scraped() {
				if err := pause(ctx, 100*time.Millisecond); err != nil {
					return cost{}, err
				}
			}
			continue
		}
		c, err := measure()
		if after, _ := h.scraped(); err != nil || after == before {
			return c, err
		}
	}
	return cost{}, fmt.Errorf("it takes more than %v, in which nothing is scraped", quietTime)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answering is a coordinator that does what it is told at once.
type answering struct{}

func (answering) Apply(_ context.Context, provider string, lease coordinator.ScaleRequest) (coordinator.State, error) {
	return coordinator.State{Provider: provider, BasePerSecond: 1000, Burst: 100, EffectivePerSecond: 1000 * lease.Scale, Scale: lease.Scale, Share: 1}, nil
}

func (answering) State(_ context.Context, provider string) (coordinator.State, error) {
	return coordinator.State{Provider: provider, BasePerSecond: 1000, Burst: 100, EffectivePerSecond: 1000, Scale: 1, Share: 1}, nil
}

// benchTargets are as many targets, each with a coordinator and a provider of its
// own.
func benchTargets(n int, names metrics.Names) ([]controller.Target, error) {
	all := make([]controller.Target, n)
	for i := range all {
		law, err := policy.New("step", policy.Settings{OK: 1, Soft: 0.5})
		if err != nil {
			return nil, err
		}
		id := coordinatorID(n, i)
		all[i] = controller.Target{
			Name: id, CoordinatorIDs: []string{id}, Names: names,
			Combine: controller.CombineWorst, Weight: 1,
			SoftEnter: percent(50), SoftExit: percent(40), HardEnter: percent(80), HardExit: percent(70),
			Lease: time.Minute, StaleAfter: time.Hour, FailMode: coordinator.FailSafe, SafeScale: 0.5,
			Providers: []controller.Provider{{Name: provider, URL: id, Gate: answering{}, LawName: "step", Law: law, Guard: controller.Guard{HardCap: 1}}},
		}
	}
	return all, nil
}

// tickCost runs a controller for some ticks and returns the mean of one.
func tickCost(ctx context.Context, server *promserver.Server, targets int) (cost, error) {
	quiet := slog.New(slog.DiscardHandler)
	api, err := metrics.NewAPI(server.URL, config.HTTPClientConfig{})
	if err != nil {
		return cost{}, err
	}
	names := metrics.DefaultNames()
	names.Matchers = fmt.Sprintf("fleet=\"%d\"", targets)
	reader, err := metrics.NewReader(api, []metrics.Names{names}, quiet)
	if err != nil {
		return cost{}, err
	}
	all, err := benchTargets(targets, names)
	if err != nil {
		return cost{}, err
	}
	interval := 500*time.Millisecond + time.Duration(targets)*250*time.Microsecond // enough for a tick
	c, err := controller.New(controller.Config{
		Interval: interval, QueryTimeout: 30 * time.Second, ApplyTimeout: 2 * time.Second, Holder: "bench", Decisions: 10,
	}, reader, all, quiet)
	if err != nil {
		return cost{}, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	const warm, measured = 2, 6
	var beforeSeconds float64
	var before uint64
	var cpu time.Duration
	for {
		n, seconds, err := ticksOf(registry)
		if err != nil {
			return cost{}, err
		}
		if before == 0 && n >= warm {
			before, beforeSeconds, cpu = n, seconds, processorTimeOf(server.PID())
		}
		if before > 0 && n >= before+measured {
			ticks := float64(n - before)
			return cost{
				wall: time.Duration((seconds - beforeSeconds) / ticks * 1e9),
				cpu:  time.Duration(float64(processorTimeOf(server.PID())-cpu) / ticks),
			}, c.Ready()
		}
		if err := pause(ctx, interval/4); err != nil {
			return cost{}, err
		}
	}
}

func percent(v float64) pressure.Mark { return pressure.Mark{Value: v, Percent: true} }

// ticksOf is how many ticks there were and how long they took together.
func ticksOf(g prometheus.Gatherer) (n uint64, seconds float64, err error) {
	families, err := g.Gather()
	for _, family := range families {
		if family.GetName() == metrics.ControllerTickDuration {
			h := family.GetMetric()[0].GetHistogram()
			return h.GetSampleCount(), h.GetSampleSum(), err
		}
	}
	return 0, 0, err
}

// askCost asks for each target by itself.
func askCost(ctx context.Context, server *promserver.Server, targets int) (cost, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: askers}}
	defer client.CloseIdleConnections()
	round := func() error {
		var all sync.WaitGroup
		errs := make([]error, askers)
		for a := range askers {
			all.Go(func() {
				for i := a; i < targets && errs[a] == nil; i += askers {
					_, errs[a] = ask(ctx, client, server.URL, fmt.Sprintf("%s{%s=%q}", metrics.QueueDepth, metrics.LabelCoordinatorID, coordinatorID(targets, i)))
				}
			})
		}
		all.Wait()
		return errors.Join(errs...)
	}
	if err := round(); err != nil {
		return cost{}, err
	}
	rounds := max(1, 5_000/targets)
	cpu, begin := processorTimeOf(server.PID()), time.Now()
	for range rounds {
		if err := round(); err != nil {
			return cost{}, err
		}
	}
	return cost{time.Since(begin) / time.Duration(rounds), (processorTimeOf(server.PID()) - cpu) / time.Duration(rounds)}, nil
}

// ask returns the value of a query that has one sample.
func ask(ctx context.Context, client *http.Client, server, query string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/api/v1/query?query="+url.QueryEscape(query), nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", err
	}
	if len(answer.Data.Result) != 1 {
		return "", fmt.Errorf("%s: %d samples, want one", query, len(answer.Data.Result))
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1]), nil
}

// processorTimeOf is what a process has used so far, in user and system mode.
func processorTimeOf(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name of the program, in parentheses, may hold spaces.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	const ticksPerSecond = 100 // of Linux on all that Go runs on
	return time.Duration(user+system) * time.Second / ticksPerSecond
}
