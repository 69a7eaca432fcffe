package pipeline

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/coordinator/redisbudget"
	"github.com/headgate/headgate/internal/route"
	"github.com/headgate/headgate/pipeline/fastloop"
	"github.com/headgate/headgate/pipeline/job"
	"github.com/headgate/headgate/pipeline/source/ingest"
	"github.com/headgate/headgate/pipeline/source/replay"
	"github.com/headgate/headgate/pipeline/source/synthetic"
	"github.com/headgate/headgate/pipeline/transform"
	"github.com/headgate/headgate/settings"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/deadletter"
	"github.com/headgate/headgate/writequeue/discard"
	"github.com/headgate/headgate/writequeue/postgres"
	"github.com/headgate/headgate/writequeue/sqlite"
)

// NewPolicy makes a feedback policy of the job's scales.
type NewPolicy func(settings.Scales) feedback.Policy

// Policies are the policies that follow the queues' events, by the name that a
// job gives: step, a scale for each level. The other laws of the controller
// look at the queues many times a second instead; see package fastloop.
func Policies() map[string]NewPolicy {
	return map[string]NewPolicy{
		policy.StepName: func(s settings.Scales) feedback.Policy { return feedback.Step(s.OK, s.Soft, s.Hard) },
	}
}

// PolicyNames lists what a job's feedback may be: the laws of the controller,
// and the policies of the program itself.
func PolicyNames(own map[string]NewPolicy) []string {
	return append(policy.Names(), slices.Sorted(maps.Keys(own))...)
}

// source is a node that brings items in.
type source struct {
	name string
	run  func(ctx context.Context) error // nil for one that waits for requests
}

// counted is something that knows what became of its items.
type counted interface{ Stats() writequeue.Stats }

// build makes all parts of the job, the last nodes first, for each needs what
// comes behind it.
func (p *Pipeline) build(policies map[string]NewPolicy) error {
	if len(p.job.LeftOut) > 0 {
		p.log.Info("nodes are left out, for this process does a part of a durable queue's work", "nodes", strings.Join(p.job.LeftOut, ", "))
	}
	for _, provider := range p.job.Providers {
		shared, err := p.sharedBudget(provider)
		if err != nil {
			return fmt.Errorf("provider %s: %w", provider.Name, err)
		}
		if err := p.coordinator.Register(coordinator.Provider{
			Name: provider.Name, BasePerSecond: provider.BasePerSecond, Burst: provider.Burst, Shared: shared,
			FloorPerSecond: provider.FloorPerSecond, InitialShare: provider.InitialShare, CoolDown: provider.CoolDown,
			BreakerFailures: provider.BreakerFailures, BreakerTimeout: provider.BreakerTimeout,
			FailMode: coordinator.FailMode(provider.FailMode), SafeScale: p.job.Feedback.Scales.Soft,
			StartInFailMode: provider.StartsInFailMode,
		}); err != nil {
			return err
		}
		if provider.StartsInFailMode && !(p.fastLoop() && provider.Name == p.job.Feedback.ProviderName) {
			p.log.Info("provider starts at its fail mode and stays there until a controller decides",
				"provider", provider.Name, "fail_mode", provider.FailMode, "key", "start_in_fail_mode")
		}
	}
	stages := map[string]stage{}
	sinks := map[string]*store{}
	for _, n := range slices.Backward(p.job.Nodes) {
		next := func() stage {
			var all teeStage
			for _, name := range n.Next {
				all = append(all, stages[name])
			}
			if len(all) == 1 {
				return all[0]
			}
			return all
		}
		var err error
		switch n.Role {
		case job.RoleSink:
			sinks[n.Name] = &store{node: n}
			p.stores = append(p.stores, sinks[n.Name])
			if p.fedWithoutQueue(n.Name) {
				stages[n.Name] = p.direct(n.Name, sinks[n.Name])
			}
		case job.RoleWriteQueue:
			stages[n.Name], err = p.queue(n, sinks)
		case job.RoleTransform:
			stages[n.Name], err = p.transform(n, next())
		case job.RoleGate:
			g := n.Settings.(*job.Gate)
			stages[n.Name] = &gateStage{coordinator: p.coordinator, provider: g.Provider, batch: g.Batch, next: next()}
		case job.RoleSource:
			err = p.source(n, next())
		}
		if err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	return p.wireFeedback(policies)
}

// sharedBudget is the provider's budget on a server, nil where it has one of its
// own. It connects when it is used.
func (p *Pipeline) sharedBudget(provider job.Provider) (coordinator.SharedBudget, error) {
	if provider.Shared == (redisbudget.Config{}) {
		return nil, nil
	}
	budget, err := redisbudget.New(provider.Shared)
	if err != nil {
		return nil, err
	}
	p.budgets = append(p.budgets, budget)
	p.log.Info("provider shares its budget with other replicas",
		"provider", provider.Name, "key", provider.Shared.Key, "share_without_it", provider.InitialShare)
	return budget, nil
}

// fastLoop reports whether a queue throttles a provider: one of the job, or that
// of another pipeline whose gate the job is.
func (p *Pipeline) fastLoop() bool {
	return p.job.Feedback.Enable && (p.job.Mode == job.ModeGate || p.someQueue((*job.WriteQueue).Accepts))
}

// someQueue reports whether something is so for a queue of the job.
func (p *Pipeline) someQueue(is func(*job.WriteQueue) bool) bool {
	return slices.ContainsFunc(p.job.Nodes, func(n job.Node) bool {
		q, isQueue := n.Settings.(*job.WriteQueue)
		return isQueue && is(q)
	})
}

// wireFeedback lets the queues throttle the job's provider: by their events
// where the policy follows those, else by a loop that looks at them.
func (p *Pipeline) wireFeedback(policies map[string]NewPolicy) error {
	f := p.job.Feedback
	switch {
	case len(p.queues) == 0 && p.job.Mode != job.ModeGate:
		p.log.Info("feedback is off", "why", "the job has no write queue")
		return nil
	case len(p.queues) > 0 && !p.someQueue((*job.WriteQueue).Accepts):
		p.log.Info("feedback is off", "why", "no items enter a write queue here")
		return nil
	case !f.Enable:
		p.log.Info("feedback is off", "why", "enable_feedback is false")
		return nil
	}
	p.log.Info("feedback is on", "provider", f.ProviderName, "policy", f.Policy)
	if follows, ok := policies[f.Policy]; ok {
		handler := feedback.NewHandler(p.coordinator, follows(f.Scales), f.EventTTL, f.ProviderName)
		p.bus.Subscribe("provider", handler.Handle)
		return nil
	}
	var sources []fastloop.Source
	for i, q := range p.queues {
		law, err := policy.New(f.Policy, policy.Settings{
			OK: f.Scales.OK, Soft: f.Scales.Soft, Hard: f.Scales.Hard,
			Exponential: policy.DefaultExponentialTuning(), PID: policy.DefaultPIDTuning(),
		})
		if err != nil {
			return err
		}
		sources = append(sources, fastloop.Source{Queue: q, Marks: p.marks[i], Law: law})
	}
	var err error
	p.fast, err = fastloop.New(p.coordinator, fastloop.Config{
		Provider: f.ProviderName, Every: fastLoopEvery, Window: fastLoopWindow,
	}, sources...)
	return err
}

// How often the fast loop looks at the queues, and over how long it measures
// their rates: batches come some times a second.
const (
	fastLoopEvery  = 20 * time.Millisecond
	fastLoopWindow = time.Second
)

// queue is a write queue, in the memory of this process or durable.
type queue interface {
	Put(ctx context.Context, items ...writequeue.Item) (accepted int, err error)
	Run(ctx context.Context) error
	Empty(ctx context.Context) (bool, error)
	Stats() writequeue.Stats
	Health() writequeue.Health
}

// queue makes a write queue in front of its sink.
func (p *Pipeline) queue(n job.Node, sinks map[string]*store) (stage, error) {
	s := n.Settings.(*job.WriteQueue)
	var q queue
	if s.Is() {
		var sink writequeue.Sink
		if s.Writes() {
			sink = sinks[n.Next[0]]
		}
		d, err := p.durable(n.Name, s, sink)
		if err != nil {
			return nil, err
		}
		p.durables = append(p.durables, d)
		q = d
	} else {
		dead, err := deadletter.NewFile(s.DeadLetterPath)
		if err != nil {
			return nil, err
		}
		inMemory, err := writequeue.New(s.Config, sinks[n.Next[0]], dead, p.bus.Publish, p.log)
		if err != nil {
			return nil, err
		}
		if err := p.series.registry.Register(inMemory); err != nil {
			return nil, err
		}
		q = inMemory
	}
	p.queues = append(p.queues, q)
	p.marks = append(p.marks, s.Config.Marks)
	p.counted = append(p.counted, q)
	return queueStage{q}, nil
}

// fedWithoutQueue reports whether items come to a sink past any write queue.
func (p *Pipeline) fedWithoutQueue(sink string) bool {
	return slices.ContainsFunc(p.job.Nodes, func(n job.Node) bool {
		return n.Role != job.RoleWriteQueue && slices.Contains(n.Next, sink)
	})
}

// direct makes a stage of a sink.
func (p *Pipeline) direct(name string, sink writequeue.Sink) stage {
	d := &directStage{
		name: name, sink: sink, log: p.log,
		writtenTotal: p.series.direct.WithLabelValues(name, "written"),
		droppedTotal: p.series.direct.WithLabelValues(name, "dropped"),
	}
	p.counted = append(p.counted, d)
	return d
}

// OpenSink opens the store of a sink's node, without its pace. The closer is
// nil where there is nothing to close.
func OpenSink(ctx context.Context, n job.Node) (writequeue.Sink, io.Closer, job.Pace, error) {
	switch s := n.Settings.(type) {
	case *job.SQLite:
		store, err := sqlite.Open(ctx, s.Config)
		if err != nil {
			return nil, nil, job.Pace{}, err
		}
		return store, store, s.Pace, nil
	case *job.Postgres:
		store, err := postgres.Open(ctx, s.Config)
		if err != nil {
			return nil, nil, job.Pace{}, err
		}
		return store, store, s.Pace, nil
	case *job.Discard:
		return discard.Sink{}, nil, s.Pace, nil
	}
	return nil, nil, job.Pace{}, fmt.Errorf("%s is no sink", n.Type)
}

func (p *Pipeline) transform(n job.Node, next stage) (stage, error) {
	s := &transformStage{
		next: next,
		kept: p.series.kept.WithLabelValues(n.Name), removed: p.series.removed.WithLabelValues(n.Name),
	}
	switch v := n.Settings.(type) {
	case *job.Filter:
		low, high := math.Inf(-1), math.Inf(1)
		var err error
		if v.Min != "" {
			if low, err = strconv.ParseFloat(v.Min, 64); err != nil {
				return nil, err
			}
		}
		if v.Max != "" {
			if high, err = strconv.ParseFloat(v.Max, 64); err != nil {
				return nil, err
			}
		}
		s.transform = transform.Filter{
			Field: v.Field, In: v.In, NotIn: v.NotIn, Ranged: v.Min != "" || v.Max != "", Min: low, Max: high,
			KeepMissing: v.Missing == "keep",
		}
	case *job.Rename:
		fields := map[string]string{}
		for _, pair := range v.Fields {
			from, to, _ := strings.Cut(pair, "=")
			fields[from] = to
		}
		s.transform = transform.Rename{Fields: fields, Remove: v.Remove}
	case *job.Dedupe:
		s.transform = transform.NewDedupe(v.Field, v.Remember, v.Within)
	default:
		return nil, fmt.Errorf("%s is no transform", n.Type)
	}
	return s, nil
}

// source makes a source that puts its items into next.
func (p *Pipeline) source(n job.Node, next stage) error {
	into := &sourceStage{
		stopping: p.stopping, next: next,
		offered:  p.series.offered.WithLabelValues(n.Name),
		accepted: p.series.accepted.WithLabelValues(n.Name),
	}
	made := source{name: n.Name}
	counts := replay.Counts{
		Source: n.Name, Put: into.put,
		Skipped: p.series.skipped.WithLabelValues(n.Name),
		Lag:     p.series.lag.WithLabelValues(n.Name),
	}
	switch s := n.Settings.(type) {
	case *job.Synthetic:
		profile := synthetic.Profile{Seed: s.Seed, Scale: s.Scale, OpensAfter: s.OpensAfter}
		counts.Slots, counts.MaxLag = profile.Slots(s.Duration), s.MaxLag
		counts.Key = p.keys(n.Name, s.KeyPrefix, fmt.Sprint(profile))
		made.run = counts.Run
	case *job.Replay:
		if s.Format == "counts" {
			counts.Slots, counts.MaxLag = replay.Slots(*s.Counts, s.Speed, s.Multiplier, s.Loop), s.MaxLag
			counts.Key = p.keys(n.Name, s.KeyPrefix, s.Fingerprint, fmt.Sprint(s.Multiplier))
			made.run = counts.Run
			break
		}
		items := replay.Items{
			Open:     func() (io.ReadCloser, error) { return os.Open(s.File) },
			KeyField: s.KeyField, Key: p.keys(n.Name, s.KeyPrefix, s.Fingerprint),
			PerSecond: s.PerSecond, Loop: s.Loop, LongestLine: job.LongestLine, ItemsPerBatch: 100,
			Put: into.put,
		}
		made.run = items.Run
	case *job.HTTP:
		handler := ingest.New(ingest.Config{
			Source: n.Name, KeyField: s.KeyField, MaxBodyBytes: s.MaxBodyBytes, MaxItems: s.MaxItems,
			MaxRequests: s.MaxRequests, Wait: s.Wait, Written: s.Acknowledge == "written",
		}, p.onceOpen(into.put), p.log)
		p.handle(s.Listen, route.Route{
			Pattern: s.Path, Role: access.Feed, Help: "take items into " + n.Name, Handler: handler, Waits: s.Wait,
		})
	default:
		return fmt.Errorf("%s is no source", n.Type)
	}
	p.sources = append(p.sources, made)
	return nil
}

// keys makes the keys of a source's items by their number.
//
// A store keeps one row a key, so two things must not happen: that an item
// which is sent again has another key, and makes a second row; and that another
// item has the same key, and makes none. So a key is made of a prefix, of what
// the source's items are made of, and of the number. Without a prefix in the
// job each run has one of its own. With one the keys are the same in each run
// of the same input, which may so be repeated or taken up again; another input
// has other keys all the same.
func (p *Pipeline) keys(name, prefix string, madeOf ...string) func(uint64) string {
	if prefix == "" {
		prefix = p.job.Name + "/" + name + "/" + strings.ToLower(rand.Text()[:12])
	} else {
		p.log.Warn("items keep their keys from run to run: those that the store has from an earlier run make no new rows",
			"source", name, "key_prefix", prefix)
	}
	sum := sha256.Sum256([]byte(strings.Join(madeOf, " ")))
	prefix += "/" + hex.EncodeToString(sum[:4]) + "/"
	return func(number uint64) string { return prefix + strconv.FormatUint(number, 10) }
}

// handle serves routes on an address; the pipeline's own where it is empty.
func (p *Pipeline) handle(address string, routes ...route.Route) {
	if address == "" {
		address = p.job.Metrics.Listen
	}
	p.served[address] = append(p.served[address], routes...)
}
