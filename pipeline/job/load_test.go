package job_test

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/coordinator/redisbudget"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/internal/invalid/invalidtest"
	"github.com/headgate/headgate/pipeline/job"
	"github.com/headgate/headgate/settings"
	"github.com/headgate/headgate/writequeue"
)

// files opens files from memory.
func files(contents map[string]string) func(string) (io.ReadCloser, error) {
	return func(path string) (io.ReadCloser, error) {
		content, found := contents[path]
		if !found {
			return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
		}
		return io.NopCloser(strings.NewReader(content)), nil
	}
}

func load(file string, environ ...string) (*job.Job, error) {
	return job.Load(context.Background(), job.Input{
		Path: "jobs/job.yaml", Data: []byte(file), Environ: environ,
		Policies: []string{"step", "linear"},
		Open: files(map[string]string{
			"jobs/open.csv":    "t_seconds,value\n0,10\n1,20\n",
			"jobs/bad.csv":     "t_seconds,value\n0,many\n",
			"jobs/items.jsonl": "{\"a\":1}\n\n{\"a\":2}\n",
			"jobs/bad.jsonl":   "{\"a\":1}\n[2]\n{\"a\":\n",
			"open.csv":         "0,1\n",
			".":                "",
		}),
	})
}

// messages are the errors within err, each on its own.
func messages(err error) []string {
	var all []string
	for _, v := range invalid.All(err) {
		all = append(all, v.Error())
	}
	return all
}

const small = `
name: bars
dag:
  nodes:
    in: {type: synthetic}
    gate: {type: gate}
    queue: {type: write_queue}
    store: {type: sqlite, path: bars.db}
  edges:
    - [in, gate]
    - [gate, queue]
    - [queue, store]
providers:
  ibkr: {base_per_second: 500, burst: 100}
`

func TestASmallJobHasTheDefaults(t *testing.T) {
	j, err := load(small)
	if err != nil {
		t.Fatal(err)
	}
	wantProvider := job.Provider{
		Name: "ibkr", BasePerSecond: 500, Burst: 100, FloorPerSecond: 1, InitialShare: 1, CoolDown: 600 * time.Second,
		BreakerFailures: 5, BreakerTimeout: time.Minute, FailMode: "safe", StartsInFailMode: true,
	}
	if diff := cmp.Diff([]job.Provider{wantProvider}, j.Providers); diff != "" {
		t.Error(diff)
	}
	wantFeedback := settings.Feedback{
		Enable: true, ProviderName: "ibkr", Policy: "step",
		Scales: settings.Scales{OK: 1, Soft: 0.5, Hard: 0},
	}
	if diff := cmp.Diff(wantFeedback, j.Feedback); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(job.Metrics{Listen: "127.0.0.1:9400", ShutdownTimeout: 5 * time.Second}, j.Metrics); diff != "" {
		t.Error(diff)
	}
	queue := j.Nodes[2].Settings.(*job.WriteQueue)
	if diff := cmp.Diff(writequeue.DefaultConfig("bars"), queue.Config); diff != "" {
		t.Error("the queue's defaults drifted from writequeue's:", diff)
	}
	if got := j.Nodes[3].Settings.(*job.SQLite).Path; got != "bars.db" {
		t.Errorf("path: got %s, want it in the working directory", got)
	}
}

func TestTheSameJobInJSONIsTheSameJob(t *testing.T) {
	fromYAML, err := load(small)
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := load(`{
	"name": "bars",
	"dag": {
		"nodes": {
			"in": {"type": "synthetic"},
			"gate": {"type": "gate"},
			"queue": {"type": "write_queue"},
			"store": {"type": "sqlite", "path": "bars.db"}
		},
		"edges": [["in", "gate"], ["gate", "queue"], ["queue", "store"]]
	},
	"providers": {"ibkr": {"base_per_second": 500, "burst": 100}}
}`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromYAML, fromJSON); diff != "" {
		t.Error(diff)
	}
}

func TestTheEnvironmentWinsOverTheFile(t *testing.T) {
	j, err := load(small+"feedback: {scale_soft: 0.4}\n",
		"HEADGATE_JOB_NAME=ticks",
		"HEADGATE_JOB_PROVIDERS_IBKR_BASE_PER_SECOND=250",
		"HEADGATE_JOB_DAG_NODES_QUEUE_CAPACITY=77",
		"HEADGATE_JOB_DAG_NODES_STORE_PATH=elsewhere.db",
		"HEADGATE_JOB_DAG_NODES_IN_TYPE=replay",
		"HEADGATE_JOB_DAG_NODES_IN_FILE=open.csv",
		"HEADGATE_JOB_FEEDBACK_SCALE_OK=0.9",
		"MDP_FB_SCALE_SOFT=0.3",
		"MDP_FB_ENABLE_FEEDBACK=false",
		"HEADGATE_JOB_METRICS_LISTEN=",
	)
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		Name, Path, File, Listen string
		Base, OK, Soft           float64
		Capacity                 int
		Enable                   bool
	}
	in := j.Nodes[0].Settings.(*job.Replay)
	queue := j.Nodes[2].Settings.(*job.WriteQueue)
	got := seen{
		j.Name, j.Nodes[3].Settings.(*job.SQLite).Path, in.File, j.Metrics.Listen,
		j.Providers[0].BasePerSecond, j.Feedback.Scales.OK, j.Feedback.Scales.Soft,
		queue.Config.Capacity, j.Feedback.Enable,
	}
	want := seen{"ticks", "elsewhere.db", "open.csv", "127.0.0.1:9400", 250, 0.9, 0.3, 77, false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if queue.Config.CoordinatorID != "ticks" {
		t.Errorf("coordinator_id: got %s, want the job's name", queue.Config.CoordinatorID)
	}
}

func TestPathsOfTheFileBeginAtTheFile(t *testing.T) {
	j, err := load(strings.Replace(small, "{type: synthetic}", "{type: replay, file: open.csv}", 1))
	if err != nil {
		t.Fatal(err)
	}
	in := j.Nodes[0].Settings.(*job.Replay)
	if in.Format != "counts" || len(in.Counts.Points) != 2 || len(in.Fingerprint) != 12 {
		t.Errorf("got format %q, %d rows, fingerprint %q", in.Format, len(in.Counts.Points), in.Fingerprint)
	}
}

// withNodes is a job with other nodes and edges than small.
func withNodes(nodes, edges string) string {
	return "name: bars\ndag:\n  nodes:\n" + nodes + "  edges: " + edges +
		"\nproviders: {ibkr: {base_per_second: 500, burst: 100}}\n"
}

func TestWhatIsWrongIsSaidWithLineKeyValueAndWhatIsRight(t *testing.T) {
	for _, test := range []struct {
		name    string
		file    string
		environ []string
		want    []string
	}{{
		name: "an empty file",
		want: []string{`jobs/job.yaml: dag is missing, want a mapping in YAML or JSON with the key dag`},
	}, {
		name: "no YAML",
		file: "name: bars\ndag: [\n",
		want: []string{`jobs/job.yaml:2 is "did not find expected node content", want a mapping in YAML or JSON with the key dag`},
	}, {
		name: "two documents",
		file: "name: a\n---\nname: b\n",
		want: []string{`jobs/job.yaml:2 is "a second document", want one document`},
	}, {
		name: "unknown keys at every depth",
		file: "nam: x\n" + strings.Replace(strings.Replace(small, "burst: 100", "burst: 100, bust: 3", 1), "{type: gate}", "{type: gate, batsch: 3}", 1) +
			"metrics: {port: 9}\nfeedback: {scale_sofd: 1}\n",
		want: []string{
			`jobs/job.yaml:1: nam is "x", want no such key: one of dag, feedback, metrics, mode, name, providers, when_done`,
			`jobs/job.yaml:15: providers.ibkr.bust is "3", want no such key: one of base_per_second, breaker_failures, breaker_timeout, burst, cool_down, fail_mode, floor_per_second, initial_share, redis_key, redis_url, start_in_fail_mode`,
			`jobs/job.yaml:16: metrics.port is "9", want no such key: one of listen, shutdown_timeout`,
			`jobs/job.yaml:7: dag.nodes.gate.batsch is "3", want no such key: one of batch, provider, type`,
			`jobs/job.yaml:17: feedback.scale_sofd is "1", want no such key: one of enable_feedback, event_ttl, policy, provider_name, scale_hard, scale_ok, scale_soft`,
		},
	}, {
		name: "values of every kind, in the file and in the environment",
		file: strings.Replace(small, "{base_per_second: 500, burst: 100}", "{base_per_second: fast, burst: 0, cool_down: 600, fail_mode: wild}", 1) +
			"when_done: maybe\nfeedback: {scale_soft: 0.6, policy: magic}\n",
		environ: []string{
			"MDP_FB_SCALE_HARD=0.9",
			"MDP_FB_ENABLE_FEEDBACK=perhaps",
			"HEADGATE_JOB_METRICS_LISTEN=9400",
			"HEADGATE_JOB_DAG_NODES_QUEUE_HARD_ENTER=40%",
		},
		want: []string{
			`jobs/job.yaml:15: when_done is "maybe", want stop or stay`,
			`jobs/job.yaml:14: providers.ibkr.base_per_second is "fast", want a number (0.001 to 1e9)`,
			`jobs/job.yaml:14: providers.ibkr.burst is "0", want a whole number (1 to 1000000000)`,
			`jobs/job.yaml:14: providers.ibkr.cool_down is "600", want a duration such as 1m30s (0s to 24h)`,
			`jobs/job.yaml:14: providers.ibkr.fail_mode is "wild", want hold, open, safe or closed`,
			`HEADGATE_JOB_METRICS_LISTEN is "9400", want host:port, such as 127.0.0.1:9400`,
			`jobs/job.yaml:7: dag.nodes.queue.soft_enter is 5000, want at most hard_enter, which is 4000`,
			`jobs/job.yaml:7: dag.nodes.queue.soft_exit is 5000, want at most hard_exit, which is 4000`,
			`MDP_FB_ENABLE_FEEDBACK is "perhaps", want true or false`,
			`jobs/job.yaml:16: feedback.policy is "magic", want one of linear, step`,
			`MDP_FB_SCALE_HARD is 0.9, want at most jobs/job.yaml:16: feedback.scale_soft, which is 0.6`,
		},
	}, {
		name: "what must be given",
		file: "dag:\n  nodes:\n    a: {}\n    s: {type: postgres}\n    f: {type: json_filter}\nproviders: {ibkr: {}}\n",
		want: []string{
			`jobs/job.yaml: name is missing, want a value`,
			`jobs/job.yaml:6: providers.ibkr.base_per_second is missing, want a number (0.001 to 1e9)`,
			`jobs/job.yaml:6: providers.ibkr.burst is missing, want a whole number (1 to 1000000000)`,
			`jobs/job.yaml:3: dag.nodes.a.type is missing, want one of replay, synthetic, http, gate, json_filter, rename, dedupe, write_queue, sqlite, postgres, discard`,
			`jobs/job.yaml:4: dag.nodes.s.url is missing, want a value`,
			`jobs/job.yaml:5: dag.nodes.f.field is missing, want a value`,
		},
	}, {
		name: "a gate alone with a graph, and with what only a queue of its own could give it",
		file: "mode: gate\n" + small + "feedback: {policy: linear}\n",
		want: []string{
			`jobs/job.yaml:4: dag is "a mapping", want none: a job of the mode gate has no graph`,
			`jobs/job.yaml:16: feedback.policy is "linear", want step in a job of the mode gate, which has no queue to look at`,
		},
	}, {
		name: "a gate alone without a provider",
		file: "mode: gate\nname: ours\n",
		want: []string{
			`jobs/job.yaml: providers is missing, want at least one, which is what a job of the mode gate is for`,
			`jobs/job.yaml: feedback.provider_name is "ibkr", want one of the providers, of which the job has none`,
		},
	}, {
		name: "an expiry of events in a job with a queue of its own",
		file: small + "feedback: {event_ttl: 30s}\n",
		want: []string{`jobs/job.yaml:15: feedback.event_ttl is 30s, want 0s in a job with a graph, whose own queue tells no more than changes`},
	}, {
		name: "variables that no key has, and two for one key",
		file: small,
		environ: []string{
			"HEADGATE_JOB_PROVIDERS_IBKR_BRUST=3",
			"HEADGATE_JOB_FEEDBACK_SCALE_SOFT=0.4",
			"MDP_FB_SCALE_SOFT=0.3",
		},
		want: []string{
			`MDP_FB_SCALE_SOFT is "0.3", want one variable for feedback.scale_soft, which HEADGATE_JOB_FEEDBACK_SCALE_SOFT sets too`,
			`HEADGATE_JOB_PROVIDERS_IBKR_BRUST is set, want the variable of a key of this job; nearest is HEADGATE_JOB_PROVIDERS_IBKR_BREAKER_FAILURES`,
		},
	}, {
		name: "two providers that share their variables",
		file: strings.Replace(small, "  ibkr:", "  ib.kr: {base_per_second: 1, burst: 1}\n  ib-kr: {base_per_second: 1, burst: 1}\n  ibkr:", 1),
		want: []string{
			`jobs/job.yaml: providers.ib-kr.base_per_second is "HEADGATE_JOB_PROVIDERS_IB_KR_BASE_PER_SECOND", want a variable of its own, which providers.ib.kr.base_per_second has already: rename one of the two`,
		},
	}, {
		name: "a key that stands there twice, a bad name, a key that is a mapping, a list where a mapping belongs",
		file: small + "name: again\nmetrics: {listen: {port: 1}}\nfeedback: [1]\n" + "when_done: [stop]\n",
		want: []string{
			`jobs/job.yaml:15: name is "again", want each key once`,
			`jobs/job.yaml:16: metrics.listen is "a mapping", want one value, or a list of values`,
			`jobs/job.yaml:17: feedback is "a list", want a mapping`,
		},
	}, {
		name: "edges that fit nothing",
		file: withNodes(`
    in: {type: synthetic}
    out: {type: discard}
`, `[[in, out], [in, out], [in, in], [in, nowhere], [in], hello]`),
		want: []string{
			`jobs/job.yaml:7: dag.edges is "in -> out", want each edge once`,
			`jobs/job.yaml:7: dag.edges is "in -> in", want an edge between two nodes`,
			`jobs/job.yaml:7: dag.edges is "nowhere", want one of the nodes in, out`,
			`jobs/job.yaml:7: dag.edges is "a list", want a list of pairs such as [from, to]`,
			`jobs/job.yaml:7: dag.edges is "hello", want a list of pairs such as [from, to]`,
		},
	}, {
		name: "nodes where their role cannot stand",
		file: withNodes(`
    in: {type: synthetic}
    late: {type: synthetic}
    lonely: {type: gate}
    q: {type: write_queue}
    a: {type: discard}
    b: {type: discard}
    c: {type: discard}
    deaf: {type: dedupe}
`, `[[in, q], [q, a], [q, b], [a, late], [in, deaf]]`),
		want: []string{
			`jobs/job.yaml:6: dag.nodes.late is "fed by a", want no edge to it, for it is a source`,
			`jobs/job.yaml:6: dag.nodes.late is "followed by nothing", want an edge from it: it reaches no sink`,
			`jobs/job.yaml:7: dag.nodes.lonely is "fed by nothing", want an edge to it: no source reaches it`,
			`jobs/job.yaml:7: dag.nodes.lonely is "followed by nothing", want an edge from it: it reaches no sink`,
			`jobs/job.yaml:8: dag.nodes.q is "followed by a, b", want exactly one sink behind a write queue`,
			`jobs/job.yaml:9: dag.nodes.a is "followed by late", want no edge from it, for it is a sink`,
			`jobs/job.yaml:11: dag.nodes.c is "fed by nothing", want an edge to it: no source reaches it`,
			`jobs/job.yaml:12: dag.nodes.deaf is "followed by nothing", want an edge from it: it reaches no sink`,
		},
	}, {
		name: "a circle",
		file: withNodes(`
    in: {type: synthetic}
    a: {type: dedupe}
    b: {type: dedupe}
    out: {type: discard}
`, `[[in, a], [a, b], [b, a], [b, out]]`),
		want: []string{`jobs/job.yaml:6: dag.edges is "a -> b -> a", want no way round in a circle`},
	}, {
		name: "nodes that get into each other's way",
		file: withNodes(`
    x: {type: http}
    y: {type: http}
    q: {type: write_queue}
    p: {type: write_queue}
    a: {type: discard}
`, `[[x, q], [y, p], [q, a], [p, a]]`),
		want: []string{
			`jobs/job.yaml:6: dag.nodes.y is "path /v1/items", want a path of its own, for x has this one`,
			`jobs/job.yaml:8: dag.nodes.p is "coordinator_id bars", want a coordinator_id of its own, for q has this one`,
			`jobs/job.yaml:8: dag.nodes.p is "dead_letter_path dead-letters.ndjson", want a dead_letter_path of its own, for q has this one`,
		},
	}, {
		name: "settings of nodes that no range can check",
		file: withNodes(`
    x: {type: http, path: items, listen: here}
    g: {type: gate, provider: bulk}
    f: {type: json_filter, field: price, min: low, max: NaN}
    n: {type: rename, fields: [a, b=]}
    q: {type: write_queue, retry_max: 10ms}
    s: {type: sqlite, path: s.db, table: drop table, pace_per_second: 3, pace_file: open.csv}
`, `[[x, g], [g, f], [f, n], [n, q], [q, s]]`),
		want: []string{
			`jobs/job.yaml:5: dag.nodes.x.listen is "here", want host:port, such as 127.0.0.1:9400`,
			`jobs/job.yaml:5: dag.nodes.x.path is "items", want a path such as /v1/items`,
			`jobs/job.yaml:6: dag.nodes.g.provider is "bulk", want one of the providers ibkr`,
			`jobs/job.yaml:7: dag.nodes.f.min is "low", want a number`,
			`jobs/job.yaml:7: dag.nodes.f.max is "NaN", want a number`,
			`jobs/job.yaml:8: dag.nodes.n.fields is "a", want pairs such as old=new`,
			`jobs/job.yaml:8: dag.nodes.n.fields is "b=", want pairs such as old=new`,
			`jobs/job.yaml:9: dag.nodes.q.retry_max is 10ms, want a duration >= retry_initial, which is 50ms`,
			`jobs/job.yaml:10: dag.nodes.s.table is "drop table", want letters, digits and _, at most 63, no digit first, not sqlite_`,
			`jobs/job.yaml:10: dag.nodes.s.pace_per_second is 3, want either it or jobs/job.yaml:10: dag.nodes.s.pace_file`,
		},
	}, {
		name: "files that are not there or hold something else",
		file: withNodes(`
    a: {type: replay, file: gone.csv}
    b: {type: replay, file: bad.csv}
    c: {type: replay, file: bad.jsonl}
    d: {type: discard, pace_file: bad.csv}
`, `[[a, d], [b, d], [c, d]]`),
		want: []string{
			`jobs/job.yaml:5: dag.nodes.a.file is "jobs/gone.csv", want a file that can be read: file does not exist`,
			`jobs/job.yaml:6: dag.nodes.b.file: jobs/bad.csv: line 2, value is "many", want a finite number >= 0`,
			`jobs/job.yaml:7: dag.nodes.c.file: jobs/bad.jsonl: line 2 is "[2]", want one JSON object`,
			`jobs/job.yaml:7: dag.nodes.c.file: jobs/bad.jsonl: line 3 is "{\"a\":", want one JSON object`,
			`jobs/job.yaml:8: dag.nodes.d.pace_file: jobs/bad.csv: line 2, value is "many", want a finite number >= 0`,
		},
	}, {
		name: "files in folders that are not there",
		file: strings.Replace(strings.Replace(small, "path: bars.db", "path: gone/bars.db", 1), "{type: write_queue}", "{type: write_queue, dead_letter_path: gone/dead}", 1),
		want: []string{
			`jobs/job.yaml:7: dag.nodes.queue.dead_letter_path is "gone/dead", want a file in a folder that exists`,
			`jobs/job.yaml:8: dag.nodes.store.path is "gone/bars.db", want a file in a folder that exists`,
		},
	}, {
		name: "paths that the pipeline has another use for",
		file: withNodes(`
    a: {type: http, path: /metrics}
    b: {type: http, path: /v1/providers/x}
    d: {type: discard}
`, `[[a, d], [b, d]]`),
		want: []string{
			`jobs/job.yaml:5: dag.nodes.a.path is "/metrics", want a path that the pipeline has no other use for, such as /v1/items`,
			`jobs/job.yaml:6: dag.nodes.b.path is "/v1/providers/x", want a path that the pipeline has no other use for, such as /v1/items`,
		},
	}, {
		name: "shared budgets that cannot be",
		file: strings.Replace(small, "  ibkr: {base_per_second: 500, burst: 100}", `
  ibkr: {base_per_second: 500, burst: 9, redis_url: "me:tellnoone@redis", initial_share: 0.2}
  alone: {base_per_second: 500, burst: 100, redis_url: "redis://redis:6379"}
  same: {base_per_second: 500, burst: 100, redis_url: "redis://redis:6379", redis_key: "headgate:budget:alone", initial_share: 0.2}
  keyed: {base_per_second: 500, burst: 100, redis_key: bars}`, 1),
		environ: []string{"HEADGATE_JOB_PROVIDERS_KEYED_INITIAL_SHARE=0.5"},
		want: []string{
			`jobs/job.yaml:15: providers.ibkr.redis_url is not readable, want redis://host:port, with user:password@ and a /database where need be, rediss:// or unix://`,
			`jobs/job.yaml:15: providers.ibkr.burst is 9, want at least 10 for a shared budget, what comes in within 20ms at base_per_second: a token has to be of use for longer than an answer of the server takes`,
			`jobs/job.yaml:16: providers.alone.initial_share is missing, want with redis_url the part of the budget that this replica has while the server is away: 1 divided by the most replicas that there may be`,
			`jobs/job.yaml:17: providers.same.redis_key is "headgate:budget:alone", want a key of its own, for alone has this one`,
			`jobs/job.yaml:18: providers.keyed.redis_key is "bars", want no key without jobs/job.yaml:18: providers.keyed.redis_url`,
		},
	}, {
		name: "a feedback provider that does not exist",
		file: strings.Replace(strings.Replace(small, "ibkr:", "bulk:", 1), "{type: gate}", "{type: gate, provider: bulk}", 1),
		want: []string{`jobs/job.yaml: feedback.provider_name is "ibkr", want one of the providers bulk`},
	}} {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(test.file, test.environ...)
			if diff := cmp.Diff(test.want, messages(err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestASharedBudgetIsGivenByTheFileOrTheEnvironment(t *testing.T) {
	const file = "redis://redis:6379/2"
	shared := strings.Replace(small, "burst: 100", "burst: 100, initial_share: 0.2, redis_url: "+file, 1)
	want := redisbudget.Config{URL: file, Key: "headgate:budget:ibkr", BasePerSecond: 500, Burst: 100}
	j, err := load(shared)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, j.Providers[0].Shared); diff != "" {
		t.Error(diff)
	}
	want.URL, want.Key = "rediss://me:tellnoone@elsewhere:6380", "desk"
	j, err = load(shared, "HEADGATE_JOB_PROVIDERS_IBKR_REDIS_URL="+want.URL, "HEADGATE_JOB_PROVIDERS_IBKR_REDIS_KEY=desk")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, j.Providers[0].Shared); diff != "" {
		t.Error(diff)
	}
}

func TestThePasswordOfABudgetIsNotRepeatedInAnError(t *testing.T) {
	for _, url := range []string{
		"http://me:tellnoone@redis:6379", "redis://me:tellnoone@redis:port", "redis://me:tellnoone@redis:6379/db", "me:tellnoone@redis", "redis://:tell%noone@redis",
	} {
		for _, file := range []string{"redis_url: '" + url + "'", "redis_urls: 'redis://" + url + "'", "redis_url: ['" + url + "', 1]", "redis_url: {a: '" + url + "'}"} {
			_, err := load(strings.Replace(small, "burst: 100", "burst: 100, initial_share: 0.2, "+file, 1))
			if err == nil || strings.Contains(err.Error(), "noone") {
				t.Errorf("%s: got %v, want an error without the password", file, err)
			}
		}
		_, err := load(small, "HEADGATE_JOB_PROVIDERS_IBKR_INITIAL_SHARE=0.2", "HEADGATE_JOB_PROVIDERS_IBKR_REDIS_URL="+url)
		if err == nil || strings.Contains(err.Error(), "noone") {
			t.Errorf("%s by the environment: got %v, want an error without the password", url, err)
		}
	}
}

func TestAPasswordIsNotRepeatedInAnError(t *testing.T) {
	_, err := load(withNodes(`
    in: {type: synthetic}
    out: {type: postgres, url: "postgres://me:tellnoone@host:port/db"}
`, `[[in, out]]`))
	if err == nil || strings.Contains(err.Error(), "tellnoone") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

func FuzzLoadNeverPanicsAndSaysWhatIsWrong(f *testing.F) {
	f.Add(small)
	f.Add("dag: &a {nodes: *a, edges: [*a]}")
	f.Add("{\"dag\": {\"nodes\": {\"a\": {\"type\": \"http\"}}, \"edges\": [[1,2]]}}")
	f.Add("? [a]\n: b\n")
	f.Fuzz(func(t *testing.T, file string) {
		j, err := load(file)
		if (j == nil) == (err == nil) {
			t.Fatalf("got job %v and error %v, want one of the two", j, err)
		}
		if err != nil {
			invalidtest.Explained(t, err)
		}
		if j != nil && len(j.Nodes) < 2 {
			t.Fatalf("a job with %d nodes was found right", len(j.Nodes))
		}
	})
}
