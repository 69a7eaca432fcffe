package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/e2e/cluster"
	"github.com/headgate/headgate/e2e/storm"
)

// StormFor is how long a storm lasts where nobody says otherwise.
const StormFor = 10 * time.Minute

const (
	stormObjects  = 20 // ScaledObjects on each kind of trigger, which KEDA polls
	stormPolling  = time.Second
	stormTriggers = 50 // that the crowd asks for
	stormP99      = 50 * time.Millisecond
	stormMark     = 1000 // items above which a trigger is active, and the level SOFT

	// Every wave is one and a half marks high and gone long before the next.
	stormWave  = 4 * time.Second
	stormDrain = 1000 // rows per second

	stormTell = 30 * time.Second // between two reports of how it goes

	// stormMemory is what the manifest lets the scaler have.
	stormMemory = 128 << 20
)

var stormCrowd = storm.Crowd{Silent: 60, Deaf: 60, Unread: 200, Cancelling: 50, ComingBack: 50}

// Storm returns the scenario in which the scaler stands under KEDA's polling
// and streams, and hundreds of clients that hang, cancel and come back: each
// call is answered meanwhile, and nothing is left of them afterwards.
func Storm(lasting time.Duration) Scenario {
	return Scenario{Name: "storm", Alone: true, Limit: lasting + 5*time.Minute, Run: func(ctx context.Context, e *Env) error {
		return e.storm(ctx, lasting)
	}}
}

func (e *Env) storm(ctx context.Context, lasting time.Duration) error {
	triggers, err := e.installStorm(ctx)
	if err != nil {
		return err
	}
	crowd := &storm.Storm{Address: e.Node.Address(e.Namespace, scalerComponent) + ":6000", Triggers: triggers, Crowd: stormCrowd}
	if err := crowd.Introduce(ctx); err != nil {
		return err
	}
	before, err := e.atRest(ctx, nil)
	if err != nil {
		return err
	}
	e.Say("before: %+v", before)
	ownBefore, err := e.ownWaits(ctx)
	if err != nil {
		return err
	}
	waits, most, err := e.underStorm(ctx, crowd, lasting)
	if err != nil {
		return err
	}
	ownAfter, err := e.ownWaits(ctx)
	if err != nil {
		return err
	}
	e.Figure("clients", stormCrowd.Clients())
	e.Figure("seconds", lasting.Seconds())
	e.Figure("crowd", crowd.Counts())
	e.Say("the crowd: %v", crowd.Counts())
	if err := e.judgeWaits(waits); err != nil {
		return err
	}
	if err := e.judgeOwnWaits(ownBefore, ownAfter); err != nil {
		return err
	}
	e.Figure("before", before)
	e.Figure("most", most)
	if most.Resident > stormMemory {
		return fmt.Errorf("the scaler took %.0f bytes of memory, and its manifest gives it %d", most.Resident, stormMemory)
	}
	panics, err := series(ctx, e.scalerHTTP()+"/metrics", "headgate_scaler_panics_total")
	if err != nil {
		return err
	}
	if panics != 0 {
		return fmt.Errorf("%v calls of the scaler panicked", panics)
	}
	after, err := e.atRest(ctx, &before)
	if err != nil {
		return fmt.Errorf("after the storm, before which it was %+v, and at most %+v: %w", before, most, err)
	}
	e.Figure("after", after)
	e.Say("after: %+v", after)
	return e.followsAfterStorm(ctx)
}

// installStorm installs the scaler with KEDA's ScaledObjects on it, whose streams
// are open when it returns the triggers that the crowd asks for.
func (e *Env) installStorm(ctx context.Context) ([]*pb.ScaledObjectRef, error) {
	err := e.Install(ctx, Plan{
		Overlay: "overlays/external-push", Without: []string{"controller", "pipeline-burst"},
		Job:      usualJob(jobSettings{soft: fmt.Sprint(stormMark), hard: "9500"}),
		Settings: map[string]string{"HEADGATE_SCALER_STALE_AFTER": "30s"},
	})
	if err != nil {
		return nil, err
	}
	if err := e.awaitPods(ctx, "pipeline", 1); err != nil {
		return nil, err
	}
	if err := e.awaitPods(ctx, scalerComponent, 1); err != nil {
		return nil, err
	}
	metadata := fmt.Sprintf(`coordinatorIds: bars, metric: queueDepth, targetValue: "%[1]d", activationValue: "%[1]d"`, stormMark)
	// Those that only poll go from none to one, once; one follows the depth.
	var b strings.Builder
	var names []string
	for _, kind := range []string{"external", "external-push"} {
		for i := range stormObjects {
			name := fmt.Sprintf("%s-%d", kind, i)
			names = append(names, name)
			b.WriteString(scaled{name: name, most: 1, polling: stormPolling, cool: time.Hour, trigger: e.ourTrigger(kind, metadata)}.yaml(e.Namespace))
		}
	}
	names = append(names, "follower")
	b.WriteString(scaled{name: "follower", most: 10, polling: stormPolling, cool: time.Hour, trigger: e.ourTrigger("external", metadata)}.yaml(e.Namespace))
	if _, err := e.Cluster.ApplyYAML(ctx, b.String()); err != nil {
		return nil, err
	}
	if err := e.ready(ctx, names); err != nil {
		return nil, err
	}
	opening, cancel := within(ctx, time.Minute, "KEDA's opening of its streams")
	defer cancel()
	err = cluster.Poll(opening, func(ctx context.Context) error {
		now, err := e.resources(ctx)
		if err == nil && now.Streams != 2*stormObjects { // a push trigger has two
			err = fmt.Errorf("%v streams are open, want %d", now.Streams, 2*stormObjects)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var triggers []*pb.ScaledObjectRef
	for i := range stormTriggers {
		triggers = append(triggers, &pb.ScaledObjectRef{Namespace: e.Namespace, Name: fmt.Sprintf("storm-%d", i), ScalerMetadata: map[string]string{
			"coordinatorIds": "bars", "metric": "queueDepth", "activationValue": fmt.Sprint(stormMark),
		}})
	}
	return triggers, nil
}

// resources are what the scaler holds, as it exports them itself.
type resources struct {
	Goroutines float64 `json:"goroutines"`
	OpenFiles  float64 `json:"open_files"`
	Streams    float64 `json:"streams"`
	Heap       float64 `json:"heap_bytes"`
	Resident   float64 `json:"resident_bytes"`
}

func (e *Env) resources(ctx context.Context) (r resources, err error) {
	ctx, cancel := within(ctx, 5*time.Second, "the scaler's series")
	defer cancel()
	all, err := exported(ctx, e.scalerHTTP()+"/metrics")
	for name, into := range map[string]*float64{
		"go_goroutines": &r.Goroutines, "process_open_fds": &r.OpenFiles, "headgate_scaler_streams": &r.Streams,
		"go_memstats_heap_alloc_bytes": &r.Heap, "process_resident_memory_bytes": &r.Resident,
	} {
		if err == nil {
			*into, err = all.sum(name)
		}
	}
	return r, err
}

// with puts each number together with that of other resources.
func (r resources) with(other resources, f func(a, b float64) float64) resources {
	return resources{
		Goroutines: f(r.Goroutines, other.Goroutines), OpenFiles: f(r.OpenFiles, other.OpenFiles),
		Streams: f(r.Streams, other.Streams), Heap: f(r.Heap, other.Heap), Resident: f(r.Resident, other.Resident),
	}
}

const (
	// restWindow is for how long the least of each is looked for: what is garbage
	// counts as heap until it is collected.
	restWindow = 15 * time.Second

	// KEDA and Prometheus may have a connection more than before, each of a few
	// goroutines.
	restSlack = 10
	restHeap  = 2 << 20 // bytes more

	// What was needed at most is given back to the system by and by, most of it.
	restResident = 16 << 20 // bytes more
)

// atRest is the least that the scaler holds for a while. Where it is said what
// it held before, it is waited for that it is the same again.
func (e *Env) atRest(ctx context.Context, before *resources) (resources, error) {
	ctx, cancel := within(ctx, 3*time.Minute, "coming to rest")
	defer cancel()
	var least resources
	err := cluster.Poll(ctx, func(ctx context.Context) error {
		first, err := e.resources(ctx)
		if err != nil {
			return err
		}
		least = first
		for ends := time.Now().Add(restWindow); time.Now().Before(ends); {
			now, err := e.resources(ctx)
			if err != nil {
				return err
			}
			least = least.with(now, math.Min)
			if !cluster.Pause(ctx, 100*time.Millisecond) {
				return context.Cause(ctx)
			}
		}
		switch b := before; {
		case b == nil:
			return nil
		case least.Goroutines > b.Goroutines+restSlack, least.OpenFiles > b.OpenFiles+restSlack,
			least.Streams != b.Streams, least.Heap > b.Heap+restHeap, least.Resident > b.Resident+restResident:
			return fmt.Errorf("the scaler holds %+v", least)
		}
		return nil
	})
	return least, err
}

// underStorm lets the crowd loose for a while. The scaler's level changes all
// the time, so that streams have something to tell. It returns how long the
// calls of a well-behaved client took meanwhile, and the most that the scaler
// held.
func (e *Env) underStorm(ctx context.Context, crowd *storm.Storm, lasting time.Duration) (waits map[string]storm.Waits, most resources, err error) {
	if err := e.Store.SetCapacity(ctx, stormDrain, true); err != nil {
		return nil, most, err
	}
	began := time.Now()
	// Without a deadline, which calls would pass on: at the end they are cancelled.
	during, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(lasting, cancel).Stop()
	group, during := errgroup.WithContext(during)
	group.Go(func() error { return crowd.Run(during) })
	group.Go(func() error {
		var err error
		waits, err = storm.Measure(during, crowd.Address, crowd.Triggers[0])
		return err
	})
	group.Go(func() error {
		for cluster.Pause(during, stormWave) {
			e.Load.Add(stormMark * 3 / 2)
		}
		return nil
	})
	group.Go(func() error {
		told := began
		for cluster.Pause(during, time.Second) {
			now, err := e.resources(during)
			if during.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			most = most.with(now, math.Max)
			if time.Since(told) > stormTell {
				told = time.Now()
				e.Say("%.0f of %.0f s: %+v", time.Since(began).Seconds(), lasting.Seconds(), now)
			}
		}
		return nil
	})
	err = group.Wait()
	return waits, most, errors.Join(err, context.Cause(ctx))
}

// answered is how a kind of call was answered during a storm.
type answered struct {
	Calls   int     `json:"calls"`
	Median  float64 `json:"median_ms"`
	P99     float64 `json:"p99_ms"`
	Longest float64 `json:"longest_ms"`
}

// judgeWaits checks that each kind of call was answered in time.
func (e *Env) judgeWaits(waits map[string]storm.Waits) error {
	ms := func(d time.Duration) float64 { return round(d.Seconds()*1000, 2) }
	figures := map[string]answered{}
	var late []error
	for _, name := range slices.Sorted(maps.Keys(waits)) {
		w := waits[name]
		a := answered{Calls: len(w), Median: ms(w.Percentile(50)), P99: ms(w.Percentile(99)), Longest: ms(w.Percentile(100))}
		figures[name] = a
		e.Say("%s: %+v", name, a)
		if p99 := w.Percentile(99); p99 >= stormP99 {
			late = append(late, fmt.Errorf("of %d calls of %s one in a hundred took %v and more, want less than %v", len(w), name, p99, stormP99))
		}
	}
	e.Figure("answered", figures)
	return errors.Join(late...)
}

// ownWaits are the unary calls that the scaler says it has answered so far, by
// method.
func (e *Env) ownWaits(ctx context.Context) (map[string]ownWaits, error) {
	all, err := exported(ctx, e.scalerHTTP()+"/metrics")
	if err != nil {
		return nil, err
	}
	waits := map[string]ownWaits{}
	for _, method := range []string{"IsActive", "GetMetricSpec", "GetMetrics"} {
		var w ownWaits
		w.within, w.all, err = all.atMost(stormP99.Seconds(), "grpc_server_handling_seconds", fmt.Sprintf("grpc_method=%q", method))
		if err != nil {
			return nil, err
		}
		waits[method] = w
	}
	return waits, nil
}

type ownWaits struct{ within, all uint64 } // within the limit

// judgeOwnWaits checks that by the scaler's own count, of the calls of all
// clients, enough of each method were answered in time.
func (e *Env) judgeOwnWaits(before, after map[string]ownWaits) error {
	shares := map[string]float64{}
	for method, now := range after {
		shares[method] = round(float64(now.within-before[method].within)/float64(now.all-before[method].all), 5)
		if shares[method] < 0.99 {
			return fmt.Errorf("the scaler answered a share of %v of its %s within %v, want 0.99", shares[method], method, stormP99)
		}
	}
	e.Figure("share_within_50_ms_by_its_own_count", shares)
	return nil
}

// followsAfterStorm checks that KEDA scales by the scaler as before.
func (e *Env) followsAfterStorm(ctx context.Context) error {
	const want = 5
	follower := e.Follow("follower")
	if err := e.Store.SetCapacity(ctx, still, true); err != nil {
		return err
	}
	e.Load.Add(want*stormMark - 100)
	if err := follower.Is(ctx, want, 40*time.Second); err != nil {
		return fmt.Errorf("after the storm: %w", err)
	}
	return nil
}
