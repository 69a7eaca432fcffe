package job

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/coordinator/redisbudget"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/trace"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/postgres"
	"github.com/headgate/headgate/writequeue/sqlite"
)

// nameRule is what nodes and providers may be called.
var nameRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

const wantName = "a name of 1 to 63 letters, digits, dots, dashes and underscores"

// job walks through the whole file.
func (r *reader) job(root *yaml.Node) *Job {
	var j Job
	top := r.entries("", root)
	of := func(key string) entry {
		i := slices.IndexFunc(top, func(e entry) bool { return e.key == key })
		if i < 0 {
			return entry{}
		}
		return top[i]
	}
	s := r.fill("", 0, top, &j.Top, "dag", "providers", "feedback", "metrics")
	if j.Name != "" && !nameRule.MatchString(j.Name) {
		s.report("name", j.Name, wantName)
	}
	j.Providers = r.providers(of("providers").value)

	metrics := of("metrics")
	s = r.fill("metrics", metrics.line, r.entries("metrics", metrics.value), &j.Metrics)
	s.address("listen", j.Metrics.Listen)

	graph := &graph{}
	if dag := of("dag"); j.Mode != ModeGate {
		graph = r.graph(dag, &j)
		j.LeftOut = graph.prune()
	} else {
		if dag.value != nil {
			r.report(r.at(dag.line, "dag"), describe(dag.value), "none: a job of the mode gate has no graph")
		}
		if len(j.Providers) == 0 {
			r.errs = append(r.errs, invalid.Missing(r.at(of("providers").line, "providers"), "at least one, which is what a job of the mode gate is for"))
		}
	}
	j.Nodes = graph.sorted()
	r.feedback(of("feedback"), &j, graph)
	return &j
}

func (r *reader) providers(n *yaml.Node) []Provider {
	var all []Provider
	for _, e := range r.entries("providers", n) {
		path := join("providers", e.key)
		if !nameRule.MatchString(e.key) {
			r.report(r.at(e.line, "providers"), e.key, wantName)
			continue
		}
		p := Provider{Name: e.key}
		s := r.fill(path, e.line, r.entries(path, e.value), &p)
		if p.FloorPerSecond > p.BasePerSecond && p.BasePerSecond > 0 {
			s.report("floor_per_second", p.FloorPerSecond, fmt.Sprintf("at most %s, which is %v", s.field("base_per_second"), p.BasePerSecond))
		}
		r.sharedBudget(s, &p, all)
		all = append(all, p)
	}
	return all
}

// sharedBudget checks the settings of a budget that is kept on a server. The
// providers before this one have theirs.
func (r *reader) sharedBudget(s *section, p *Provider, before []Provider) {
	if p.RedisURL == "" {
		if p.RedisKey != "" {
			s.report("redis_key", p.RedisKey, "no key without "+s.field("redis_url"))
		}
		return
	}
	p.Shared = redisbudget.Config{
		URL: p.RedisURL, Key: cmp.Or(p.RedisKey, "headgate:budget:"+p.Name), BasePerSecond: p.BasePerSecond, Burst: p.Burst,
	}
	s.check(p.Shared.Validate())
	if s.from["initial_share"].text == "" && !s.wrong["initial_share"] {
		r.errs = append(r.errs, invalid.Missing(s.field("initial_share"),
			"with redis_url the part of the budget that this replica has while the server is away: 1 divided by the most replicas that there may be"))
	}
	for _, other := range before {
		if other.Shared.URL == p.Shared.URL && other.Shared.Key == p.Shared.Key {
			s.report("redis_key", p.Shared.Key, "a key of its own, for "+other.Name+" has this one")
		}
	}
}

// feedback reads how the queue's level throttles a provider. Where items enter no
// write queue there is no feedback, and the provider need not exist; but to a
// gate alone the queues of others send theirs.
func (r *reader) feedback(e entry, j *Job, g *graph) {
	s := r.fill("feedback", e.line, r.entries("feedback", e.value), &j.Feedback)
	f := &j.Feedback
	if !slices.Contains(r.in.Policies, f.Policy) {
		s.report("policy", f.Policy, "one of "+strings.Join(slices.Sorted(slices.Values(r.in.Policies)), ", "))
	}
	if f.Scales.Soft > f.Scales.OK {
		s.report("scale_soft", f.Scales.Soft, fmt.Sprintf("at most %s, which is %v", s.field("scale_ok"), f.Scales.OK))
	}
	if f.Scales.Hard > f.Scales.Soft {
		s.report("scale_hard", f.Scales.Hard, fmt.Sprintf("at most %s, which is %v", s.field("scale_soft"), f.Scales.Soft))
	}
	alone := j.Mode == ModeGate
	if alone && f.Policy != policy.StepName && slices.Contains(policy.Names(), f.Policy) {
		s.report("policy", f.Policy, policy.StepName+" in a job of the mode gate, which has no queue to look at")
	}
	if !alone && f.EventTTL > 0 {
		s.report("event_ttl", f.EventTTL, "0s in a job with a graph, whose own queue tells no more than changes")
	}
	if f.Enable && (alone || g.accepts()) {
		r.provider(s, "provider_name", f.ProviderName, j.Providers)
	}
}

// provider checks that there is a provider of that name.
func (r *reader) provider(s *section, key, name string, all []Provider) {
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	switch {
	case slices.Contains(names, name):
	case len(names) == 0:
		s.report(key, name, "one of the providers, of which the job has none")
	default:
		s.report(key, name, "one of the providers "+strings.Join(names, ", "))
	}
}

// address checks the form of an address to listen on.
func (s *section) address(key, address string) {
	_, port, err := net.SplitHostPort(address)
	if n, portErr := strconv.Atoi(port); err != nil || portErr != nil || n < 0 || n > 65535 {
		s.report(key, address, "host:port, such as 127.0.0.1:9400")
	}
}

// finish checks a node's settings beyond their ranges, and reads the files that
// they name.
func (r *reader) finish(s *section, n *Node, j *Job) {
	switch v := n.Settings.(type) {
	case *Replay:
		r.replay(s, v)
	case *HTTP:
		if v.Listen != "" {
			s.address("listen", v.Listen)
		}
		if !strings.HasPrefix(v.Path, "/") || strings.ContainsAny(v.Path, " {}?#") {
			s.report("path", v.Path, "a path such as /v1/items")
		} else if taken(v.Path) {
			s.report("path", v.Path, "a path that the pipeline has no other use for, such as /v1/items")
		}
	case *Gate:
		r.provider(s, "provider", v.Provider, j.Providers)
	case *Filter:
		s.number("min", v.Min)
		s.number("max", v.Max)
	case *Rename:
		for _, pair := range v.Fields {
			if from, to, ok := strings.Cut(pair, "="); !ok || from == "" || to == "" {
				s.report("fields", pair, "pairs such as old=new")
			}
		}
	case *WriteQueue:
		r.writeQueue(s, v, j)
	case *SQLite:
		s.folder("path", v.Path)
		v.Config = sqlite.Config{Path: v.Path, Table: v.Table, Synchronous: v.Synchronous, BusyTimeout: v.BusyTimeout}
		s.check(v.Config.Validate())
		r.pace(s, &v.Pace)
	case *Postgres:
		v.Config = postgres.Config{URL: v.URL, Table: v.Table, KeyColumns: v.KeyColumns, Payload: v.Payload}
		s.check(v.Config.Validate())
		r.pace(s, &v.Pace)
	case *Discard:
		r.pace(s, &v.Pace)
	}
}

// taken reports whether the pipeline itself answers on a path.
func taken(path string) bool {
	return path == "/" || path == "/metrics" || path == "/feedback" || path == "/v1/feedback" || path == "/v1/changes" ||
		strings.HasPrefix(path, "/-/") || strings.HasPrefix(path+"/", "/v1/providers/")
}

// check reports what a package says of settings that were made of a section's
// keys, under the same names.
func (s *section) check(err error) {
	for _, v := range invalid.All(err) {
		if !s.wrong[v.Field] {
			v.Field = s.field(v.Field)
			s.r.errs = append(s.r.errs, v)
		}
	}
}

func (s *section) number(key, text string) {
	if v, err := strconv.ParseFloat(text, 64); text != "" && (err != nil || v-v != 0) {
		s.report(key, text, "a number")
	}
}

func (r *reader) writeQueue(s *section, v *WriteQueue, j *Job) {
	s.folder("dead_letter_path", v.DeadLetterPath)
	if v.CoordinatorID == "" {
		v.CoordinatorID = j.Name
	}
	v.Config = writequeue.Config{
		CoordinatorID: v.CoordinatorID,
		Capacity:      v.Capacity,
		Marks: writequeue.Marks{
			SoftEnter: v.SoftEnter, SoftExit: v.SoftExit, HardEnter: v.HardEnter, HardExit: v.HardExit,
		},
		Overflow: v.Overflow,
		Workers:  v.Workers, BatchSize: v.BatchSize, BatchWait: v.BatchWait,
		Retry:        writequeue.Retry{Attempts: v.RetryAttempts, Initial: v.RetryInitial, Max: v.RetryMax},
		Breaker:      writequeue.Breaker{Failures: v.BreakerFailures, Timeout: v.BreakerTimeout},
		WriteTimeout: v.WriteTimeout, DrainTimeout: v.DrainTimeout,
	}
	if v.CoordinatorID == "" {
		return // reported as the job's name
	}
	s.durable(v)
	if v.Is() {
		s.checkDurable(v.JetStream().Validate())
	} else {
		s.check(v.Config.Validate())
	}
}

// replay reads a recording of counts, and looks through one of items.
func (r *reader) replay(s *section, v *Replay) {
	if v.File == "" {
		return
	}
	s.resolvePath("file", &v.File)
	if v.Format == "auto" {
		v.Format = "items"
		if strings.HasSuffix(strings.ToLower(v.File), ".csv") {
			v.Format = "counts"
		}
	}
	r.file(s, "file", v.File, func(content io.Reader) error {
		sum := sha256.New()
		content = io.TeeReader(content, sum)
		var err error
		if v.Format == "counts" {
			var counts trace.Trace
			counts, err = trace.Read(content)
			v.Counts = &counts
		} else {
			err = checkLines(content)
		}
		v.Fingerprint = hex.EncodeToString(sum.Sum(nil)[:6])
		return err
	})
}

func (r *reader) pace(s *section, p *Pace) {
	switch {
	case p.File != "" && p.PerSecond > 0:
		s.report("pace_per_second", p.PerSecond, "either it or "+s.field("pace_file"))
	case p.PerSecond > 0:
		p.Profile = &trace.Trace{Points: []trace.Point{{Value: p.PerSecond}}, Interval: time.Second}
	case p.File != "":
		s.resolvePath("pace_file", &p.File)
		r.file(s, "pace_file", p.File, func(content io.Reader) error {
			profile, err := trace.Read(content)
			if err == nil && profile.Points[0].At != 0 {
				err = invalid.New("first row", profile.Points[0].At, "a row at 0 seconds")
			}
			p.Profile = &profile
			return err
		})
	}
}

// folder checks that a file can be made where the job wants one.
func (s *section) folder(key, path string) {
	if path == "" {
		return // reported
	}
	folder, err := s.r.in.Open(filepath.Dir(path))
	if err != nil {
		s.report(key, path, "a file in a folder that exists")
		return
	}
	folder.Close()
}

// file hands a file that the job names to read, and reports what is wrong with
// it.
func (r *reader) file(s *section, key, path string, read func(io.Reader) error) {
	f, err := r.in.Open(path)
	if err != nil {
		s.report(key, path, "a file that can be read: "+errorText(err))
		return
	}
	defer f.Close()
	err = read(f)
	values := invalid.All(err)
	if err != nil && len(values) == 0 {
		s.report(key, path, "a file that can be read: "+errorText(err))
	}
	for _, v := range values {
		v.Field = fmt.Sprintf("%s: %s: %s", s.field(key), path, v.Field)
		r.errs = append(r.errs, v)
	}
}

// errorText is what the system says without the path, which stands before it.
func errorText(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
