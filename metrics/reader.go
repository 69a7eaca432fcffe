package metrics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/seldom"
	"github.com/headgate/headgate/pressure"
)

// Querier asks a Prometheus server; v1.API is one.
type Querier interface {
	Query(ctx context.Context, query string, at time.Time, opts ...v1.Option) (model.Value, v1.Warnings, v1.Infos, error)
}

// Reader reads snapshots. It remembers the last two samples of each counter
// that was in the last answer, and nothing else. It may be used by several
// goroutines at once.
type Reader struct {
	api   Querier
	names []Names
	query string
	parts map[string]part
	known []map[model.LabelValue]signal // by the index of names, and by series
	log   *slog.Logger

	mu       sync.Mutex
	counters map[seriesKey]counter
	warned   string // the warnings last logged
	warning  seldom.Condition
	others   seldom.Line // warnings than those last logged
}

// part is which exporter and which of its signals a part label stands for.
type part struct {
	names int
	timed bool   // the values are sample times
	of    signal // where timed
}

// seriesKey is a series of one exporter: all of its labels but the name and
// the mark.
type seriesKey struct {
	names  int
	signal signal
	labels string
}

// counter is what is remembered of a counter.
type counter struct {
	value float64
	at    time.Time
	rate  Rate
}

// NewReader returns a reader of the exporters with those names. Where two of
// them give the same coordinator, the earlier in the list counts. The error
// joins an *invalid.Value for every name that is wrong.
func NewReader(api Querier, names []Names, log *slog.Logger) (*Reader, error) {
	var errs []error
	if len(names) == 0 {
		errs = append(errs, invalid.Missing("names", "the names of at least one exporter's series"))
	}
	for _, n := range names {
		errs = append(errs, n.Validate())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	parts := map[string]part{nowPart: {names: -1}}
	known := make([]map[model.LabelValue]signal, len(names))
	for i, n := range names {
		parts[fmt.Sprint(i)] = part{names: i}
		known[i] = map[model.LabelValue]signal{}
		for _, s := range n.signals() {
			known[i][model.LabelValue(s.series)] = s.signal
			if s.signal.timed() {
				parts[timePart(i, s.signal)] = part{names: i, timed: true, of: s.signal}
			}
		}
	}
	return &Reader{
		api: api, names: slices.Clone(names), query: query(names), parts: parts, known: known, log: log,
		counters: map[seriesKey]counter{},
	}, nil
}

// Query is the one query that Read asks.
func (r *Reader) Query() string { return r.query }

// ErrAnswer says that Prometheus answered something that is no snapshot.
var ErrAnswer = errors.New("answer is no snapshot")

// Read asks Prometheus once, whatever the number of coordinators, and returns
// what it knows now. After an error the memory is as it was before.
func (r *Reader) Read(ctx context.Context) (Snapshot, error) {
	value, warnings, _, err := r.api.Query(ctx, r.query, time.Time{})
	if err != nil {
		return Snapshot{}, fmt.Errorf("query prometheus: %w", err)
	}
	vector, ok := value.(model.Vector)
	if !ok {
		return Snapshot{}, fmt.Errorf("query prometheus: %w: it is a %T, not a vector", ErrAnswer, value)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logWarnings(ctx, warnings)
	snapshot, err := r.fold(vector)
	if err != nil {
		return Snapshot{}, fmt.Errorf("query prometheus: %w", err)
	}
	snapshot.Warnings = len(warnings)
	return snapshot, nil
}

// logWarnings logs warnings that are new. Where they come and go, or are others
// each time, they are logged less and less.
func (r *Reader) logWarnings(ctx context.Context, warnings v1.Warnings) {
	now, text := time.Now(), strings.Join(warnings, "; ")
	leftOut, tell := r.warning.Now(now, text != "")
	if text == "" {
		return
	}
	if !tell && text != r.warned {
		leftOut, tell = r.others.Tell(now)
	}
	if tell {
		r.warned = text
		r.log.WarnContext(ctx, "prometheus answered with warnings", "warnings", text, "left_out", leftOut)
	}
}

// reading is one usable sample of one series.
type reading struct {
	seriesKey
	coordinator string
	instance    string
	labels      model.Metric
	identity    string // its labels without those that differ between two scrapes of one process
	value       float64
	at          time.Time // zero where the signal is not timed
}

// fold makes a snapshot of the answer's samples.
func (r *Reader) fold(vector model.Vector) (Snapshot, error) {
	snapshot := Snapshot{Coordinators: map[string]Observation{}}
	times := map[seriesKey]time.Time{}
	for _, sample := range vector {
		p, known := r.parts[string(sample.Metric[partLabel])]
		switch {
		case !known:
		case p.names < 0:
			snapshot.ReadAt = sample.Timestamp.Time()
		case p.timed:
			if at, ok := sampleTime(float64(sample.Value)); ok {
				times[seriesKey{p.names, p.of, labels(sample.Metric, nil)}] = at
			}
		}
	}
	if snapshot.ReadAt.IsZero() {
		return Snapshot{}, fmt.Errorf("%w: it has no time of evaluation", ErrAnswer)
	}

	building := map[string]*builder{}
	get := func(id string, names int) *builder {
		b := building[id]
		if b == nil || names < b.names {
			b = &builder{names: names, newest: map[identityKey]reading{}}
			building[id] = b
		}
		return b
	}
	for _, sample := range vector {
		p, known := r.parts[string(sample.Metric[partLabel])]
		if known && (p.timed || p.names < 0) {
			continue
		}
		reading, ok := r.reading(p, known, sample, times)
		if !ok || (building[reading.coordinator] != nil && building[reading.coordinator].names < reading.names) {
			snapshot.Ignored++
			continue
		}
		late := reading.at.Sub(snapshot.ReadAt)
		usable := usable(reading.value) && sample.Histogram == nil && late <= clockTolerance && !(reading.signal.timed() && reading.at.IsZero())
		if !usable {
			snapshot.Ignored++
		} else if late > 0 {
			reading.at = snapshot.ReadAt
		}
		if doubled := get(reading.coordinator, reading.names).add(reading, usable); doubled {
			snapshot.Ignored++
		}
	}

	remembered := make(map[seriesKey]counter, len(r.counters))
	for id, b := range building {
		o, ok := b.observation(id, r.names[b.names], func(c reading) Rate {
			now := difference(r.counters, c)
			remembered[c.seriesKey] = now
			return now.rate
		})
		if ok {
			snapshot.Coordinators[id] = o
		}
	}
	r.counters = remembered
	return snapshot, nil
}

// clockTolerance is how far a sample's time may lie after the evaluation's;
// beyond it the sample is no use. Prometheus itself never answers such.
const clockTolerance = time.Second

func usable(value float64) bool { return value >= 0 && !math.IsInf(value, 0) }

// sampleTime is a time that Prometheus gave as seconds since 1970.
func sampleTime(seconds float64) (time.Time, bool) {
	const limit = 1 << 38 // seconds; exact in milliseconds
	if !(seconds >= 0 && seconds < limit) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(math.Round(seconds * 1e3))), true
}

// reading reads the labels of a value. It is not ok where the sample is of no
// exporter, no signal or no coordinator.
func (r *Reader) reading(p part, known bool, sample *model.Sample, times map[seriesKey]time.Time) (reading, bool) {
	if !known {
		return reading{}, false
	}
	signal, known := r.known[p.names][sample.Metric[model.MetricNameLabel]]
	id := string(sample.Metric[model.LabelName(r.names[p.names].CoordinatorLabel)])
	if !known || id == "" {
		return reading{}, false
	}
	key := seriesKey{p.names, signal, labels(sample.Metric, nil)}
	instance := sample.Metric[model.InstanceLabel]
	if instance == "" {
		instance = sample.Metric["pod"]
	}
	return reading{
		seriesKey:   key,
		coordinator: id,
		instance:    string(instance),
		labels:      sample.Metric,
		identity:    identity(sample.Metric, key.labels),
		value:       float64(sample.Value),
		at:          times[key],
	}, true
}

// scrapeLabels say how a process was scraped, not which one it is: where two
// jobs scrape one process, or two servers of a pair do, its series differ in
// these alone and are one.
var scrapeLabels = []model.LabelName{
	"job", "endpoint", "service", "container", "prometheus", "prometheus_replica",
}

// identity is all, the labels of a series, without the scrapeLabels.
func identity(metric model.Metric, all string) string {
	for _, name := range scrapeLabels {
		if _, has := metric[name]; has {
			return labels(metric, scrapeLabels)
		}
	}
	return all
}

// labels writes a series' labels without its name, the mark and those of skip.
func labels(metric model.Metric, skip []model.LabelName) string {
	names := make([]model.LabelName, 0, len(metric))
	for name := range metric {
		if name != model.MetricNameLabel && name != partLabel && !slices.Contains(skip, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	size := 0
	for _, name := range names {
		size += len(name) + len(metric[name]) + 2
	}
	var b strings.Builder
	b.Grow(size)
	for _, name := range names {
		b.WriteString(string(name))
		b.WriteByte(0xff) // is in no UTF-8 text
		b.WriteString(string(metric[name]))
		b.WriteByte(0xff)
	}
	return b.String()
}

// difference is a counter's memory after one more reading.
func difference(memory map[seriesKey]counter, c reading) counter {
	last, seen := memory[c.seriesKey]
	switch {
	case !seen:
		return counter{value: c.value, at: c.at}
	case !c.at.After(last.at): // the same sample again, or one from before it
		return last
	}
	rise := c.value - last.value
	if rise < 0 { // the counter was reset: it has counted from 0 since
		rise = c.value
	}
	rate := Rate{PerSecond: rise / c.at.Sub(last.at).Seconds(), Known: true}
	if !usable(rate.PerSecond) {
		rate = Rate{}
	}
	return counter{value: c.value, at: c.at, rate: rate}
}

// identityKey is one series, however often it was scraped.
type identityKey struct {
	signal signal
	labels string
}

// builder gathers the readings of one coordinator.
type builder struct {
	names  int
	newest map[identityKey]reading
	broken bool // a depth is there but is no number >= 0
}

// add keeps the newest reading of each series, and reports whether there was
// another one.
func (b *builder) add(r reading, usable bool) (doubled bool) {
	if !usable {
		b.broken = b.broken || r.signal == depth
		return false
	}
	key := identityKey{r.signal, r.identity}
	other, doubled := b.newest[key]
	// Of two that are equally new the larger counts, so that the order of the
	// answer does not matter.
	if !doubled || r.at.After(other.at) || (r.at.Equal(other.at) && r.value > other.value) {
		b.newest[key] = r
	}
	return doubled
}

// sum adds up one signal over the series of an observation.
type sum struct {
	total
	instances map[string]total
}

type total struct {
	value   float64
	unknown bool // a summand has no value yet
}

func (s *sum) add(instance string, value float64, unknown bool) {
	s.value, s.unknown = s.value+value, s.unknown || unknown
	s.note(instance, value, unknown)
}

// note keeps an instance's part without adding it up.
func (s *sum) note(instance string, value float64, unknown bool) {
	if s.instances == nil {
		s.instances = map[string]total{}
	}
	own := s.instances[instance]
	s.instances[instance] = total{own.value + value, own.unknown || unknown}
}

// observation puts the readings together. It is not ok where there is no
// usable depth. Rates are asked for once for every counter.
func (b *builder) observation(id string, names Names, rateOf func(reading) Rate) (Observation, bool) {
	sums := [numSignals]sum{}
	o := Observation{CoordinatorID: id, Capacity: math.NaN()}
	replicas := map[string]*Replica{}
	shares, teller := b.sharing()
	// In a fixed order, so that the same samples add up to the same last bit.
	keys := slices.SortedFunc(maps.Keys(b.newest), func(x, y identityKey) int {
		return cmp.Or(cmp.Compare(x.signal, y.signal), cmp.Compare(x.labels, y.labels))
	})
	for _, key := range keys {
		r := b.newest[key]
		if key.signal >= accepted {
			rate := rateOf(r)
			sums[key.signal].add(r.instance, rate.PerSecond, !rate.Known)
			continue
		}
		if shares[r.instance] && r.instance != teller && key.signal.ofWhole() {
			sums[key.signal].note(r.instance, r.value, false)
		} else {
			sums[key.signal].add(r.instance, r.value, false)
		}
		if key.signal != depth {
			continue
		}
		o.Labels = alike(o.Labels, r.labels)
		replica := replicas[r.instance]
		if replica == nil {
			replica = &Replica{Instance: r.instance, Shares: shares[r.instance], At: r.at}
			replicas[r.instance] = replica
		}
		replica.Depth += r.value
		if r.at.Before(replica.At) {
			replica.At = r.at
		}
		if r.at.After(o.Newest) {
			o.Newest = r.at
		}
	}
	if b.broken || len(replicas) == 0 || math.IsInf(sums[depth].value, 0) || sums[capacity].beyond(replicas) {
		return Observation{}, false
	}

	o.Depth = sums[depth].value
	for _, replica := range replicas {
		replica.complete(&sums)
		o.Replicas = append(o.Replicas, *replica)
		counts := !replica.Shares || replica.Instance == teller
		if counts && (o.At.IsZero() || replica.At.Before(o.At)) {
			o.At = replica.At
		}
	}
	slices.SortFunc(o.Replicas, func(a, b Replica) int { return strings.Compare(a.Instance, b.Instance) })

	if s := sums[capacity]; s.covers(o.Replicas) && !math.IsInf(s.value, 0) {
		o.Capacity = s.value
	}
	o.Arrivals = sums[accepted].rate(sums[accepted].covers(o.Replicas))
	o.Drain = sums[written].rate(sums[written].covers(o.Replicas))
	if written := sums[written].instances; written != nil {
		o.Writers = slices.Sorted(maps.Keys(written))
	}
	o.Dropped = sums[dropped].rate(sums[dropped].instances != nil)
	o.Level, o.HasLevel = level(names, &sums)
	for _, s := range names.signals() {
		if sums[s.signal].instances == nil && s.signal != shared {
			o.Missing = append(o.Missing, s.series)
		}
	}
	return o, true
}

// sharing finds the instances that share one queue, and which of them tells of
// it: the one whose depth is the newest.
func (b *builder) sharing() (shares map[string]bool, teller string) {
	for key, r := range b.newest {
		if key.signal == shared && r.value > 0 {
			if shares == nil {
				shares = map[string]bool{}
			}
			shares[r.instance] = true
		}
	}
	if shares == nil {
		return nil, ""
	}
	var newest reading
	for key, r := range b.newest {
		if key.signal != depth || !shares[r.instance] {
			continue
		}
		// Of two that are equally new the deeper counts, then the first by name.
		order := cmp.Or(r.at.Compare(newest.at), cmp.Compare(r.value, newest.value), strings.Compare(newest.instance, r.instance))
		if newest.coordinator == "" || order > 0 {
			newest = r
		}
	}
	return shares, newest.instance
}

// alike keeps of known, nil at first, what the series has too.
func alike(known map[string]string, series model.Metric) map[string]string {
	if known == nil {
		known = make(map[string]string, len(series))
		for name, value := range series {
			if name != model.MetricNameLabel && name != partLabel {
				known[string(name)] = string(value)
			}
		}
		return known
	}
	for name, value := range known {
		if string(series[model.LabelName(name)]) != value {
			delete(known, name)
		}
	}
	return known
}

// complete fills in what is known of the replica beside its depth.
func (r *Replica) complete(sums *[numSignals]sum) {
	r.Capacity = math.NaN()
	if own, has := sums[capacity].instances[r.Instance]; has {
		r.Capacity = own.value
	}
	rate := func(s sum) Rate {
		own, has := s.instances[r.Instance]
		return own.rate(has)
	}
	r.Arrivals, r.Drain = rate(sums[accepted]), rate(sums[written])
	switch {
	case sums[hard].instances[r.Instance].value > 0:
		r.Level = pressure.Hard
	case sums[soft].instances[r.Instance].value > 0:
		r.Level = pressure.Soft
	}
}

// covers reports whether the sum is whole: no replica lacks its part. Where
// none of the replicas has a part, another process exports the series for all
// of them. Of those that share a queue some may only put in, or only take out.
func (s sum) covers(replicas []Replica) bool {
	if len(s.instances) == 0 {
		return false
	}
	with, of := 0, 0
	for _, r := range replicas {
		if r.Shares {
			continue
		}
		of++
		if _, has := s.instances[r.Instance]; has {
			with++
		}
	}
	return with == 0 || with == of
}

// beyond reports that an instance has its part, as a replica has, and is itself
// none of them: a replica whose depth is missing. One that is gone has no part
// of anything, and another process that exports the series for all of them is
// none where no replica has its own part.
func (s sum) beyond(replicas map[string]*Replica) bool {
	own := 0
	for instance := range s.instances {
		if replicas[instance] != nil {
			own++
		}
	}
	return own > 0 && own < len(s.instances)
}

// rate is the total as a rate; it is known only where it is whole.
func (t total) rate(whole bool) Rate {
	if t.unknown || !whole || math.IsInf(t.value, 0) {
		return Rate{}
	}
	return Rate{PerSecond: t.value, Known: true}
}

// level is the worst level that is raised. That none is raised counts as OK
// only where every series that could say otherwise is there.
func level(names Names, sums *[numSignals]sum) (pressure.Level, bool) {
	switch {
	case sums[hard].value > 0:
		return pressure.Hard, true
	case sums[soft].value > 0:
		return pressure.Soft, true
	}
	asked := names.Soft != "" || names.Hard != ""
	lacks := func(name string, s sum) bool { return name != "" && s.instances == nil }
	return pressure.OK, asked && !lacks(names.Soft, sums[soft]) && !lacks(names.Hard, sums[hard])
}
