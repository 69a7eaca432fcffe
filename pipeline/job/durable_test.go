package job_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/pipeline/job"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/jetstream"
)

// lives is small with a queue that has these keys.
func lives(keys string) string {
	return strings.Replace(small, "{type: write_queue}", "{type: write_queue, "+keys+"}", 1)
}

func TestADurableQueueHasTheDefaultsOfItsPackage(t *testing.T) {
	j, err := load(lives("durable: nats"), "HEADGATE_JOB_DAG_NODES_QUEUE_DURABLE_URL=nats://user:hidden@localhost:4222")
	if err != nil {
		t.Fatal(err)
	}
	queue := j.Nodes[2].Settings.(*job.WriteQueue)
	if diff := cmp.Diff(jetstream.DefaultConfig("bars"), queue.JetStream()); diff != "" {
		t.Error("the queue's defaults drifted from jetstream's:", diff)
	}
	if got := queue.Address().URL; got != "nats://user:hidden@localhost:4222" {
		t.Errorf("the address is %s, want that of the variable", got)
	}
}

func TestAnEmbeddedQueueIsSharedWhereOthersCanReachIt(t *testing.T) {
	for keys, want := range map[string]bool{
		"durable: embedded, durable_directory: q":                                   false,
		"durable: embedded, durable_directory: q, durable_listen: 'localhost:4222'": true,
	} {
		j, err := load(lives(keys))
		if err != nil {
			t.Fatal(err)
		}
		if got := j.Nodes[2].Settings.(*job.WriteQueue).JetStream().Shared; got != want {
			t.Errorf("%s: shared is %v", keys, got)
		}
	}
}

func TestWhatIsWrongWithADurableQueueIsToldWithoutItsPassword(t *testing.T) {
	const at = "jobs/job.yaml:7: dag.nodes.queue."
	for keys, want := range map[string][]string{
		"durable: tape": {at + `durable is "tape", want none, embedded or nats`},
		"durable: embedded, overflow: drop_oldest": {
			at + "durable_directory is missing, want a folder for the queue's files",
			at + `overflow is "drop_oldest", want block or refuse, for a durable queue cannot tell what it dropped`,
		},
		"durable: embedded, durable_directory: no/where": {at + `durable_directory is "no/where", want a file in a folder that exists`},
		"durable: embedded, durable_directory: q, durable_listen: '0.0.0.0:4222'": {
			at + `durable_listen is "0.0.0.0:4222", want a loopback address such as 127.0.0.1:4222, for the embedded server asks nobody who they are`,
		},
		"durable: embedded, durable_directory: q, durable_part: accept": {
			at + `durable_part is "accept", want both, or ` + at + `durable_listen for the processes that do the other part`,
		},
		"durable: nats": {at + "durable_url is missing, want the address of the servers, such as nats://127.0.0.1:4222"},
		"durable: nats, durable_url: 'http://user:hidden@nats:4222,nats://other'": {
			at + `durable_url is "http://…@nats:4222,nats://other", want addresses such as nats://host:4222, with commas between them`,
		},
		"durable: nats, durable_url: 'nats://us,er:hid@den@na ts'": {
			at + `durable_url is "nats://…@na ts", want addresses such as nats://host:4222, with commas between them`,
		},
		"durable: nats, durable_url: 'nats://nats', durable_stream: a.b, durable_cert_file: cert.pem, durable_directory: q": {
			at + `durable_directory is "q", want no value, or ` + at + `durable to be embedded`,
			at + `durable_cert_file is "jobs/cert.pem", want a file that can be read: file does not exist`,
			at + `durable_cert_file is "jobs/cert.pem", want it and key_file, or neither`,
			at + `durable_stream is "a.b", want a name of 1 to 128 letters, digits, dashes and underscores`,
		},
		"durable_part: write":                  {at + "durable_part is \"write\", want both, for a queue in memory has one process"},
		"durable_url: 'nats://u:hidden@nats'":  {at + `durable_url is "set", want no value, or ` + at + "durable to be nats"},
		"durable: nats, durable_url: nats://a": nil,
	} {
		_, err := load(lives(keys))
		got := messages(err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", keys, diff)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: the error tells the password: %v", keys, err)
		}
	}
}

const parts = `
name: bars
dag:
  nodes:
    in: {type: synthetic}
    gate: {type: gate}
    queue: {type: write_queue, durable: nats, durable_url: nats://nats}
    store: {type: sqlite, path: bars.db}
    other: {type: discard}
  edges: [[in, gate], [gate, queue], [queue, store]%s]
providers: {ibkr: {base_per_second: 500, burst: 100}}
`

func TestAPartOfADurableQueueLeavesOutWhatItDoesNotNeed(t *testing.T) {
	const variable = "HEADGATE_JOB_DAG_NODES_QUEUE_DURABLE_PART="
	for part, want := range map[string]struct{ nodes, left string }{
		"both":   {"in gate queue store other", ""},
		"accept": {"in gate queue other", "store"},
		"write":  {"in gate queue store other", ""}, // the gate feeds the other sink too
	} {
		j, err := load(strings.Replace(parts, "%s", ", [gate, other]", 1), variable+part)
		if err != nil {
			t.Fatal(err)
		}
		if got := names(j); got != want.nodes || strings.Join(j.LeftOut, " ") != want.left {
			t.Errorf("%s: nodes %s, left out %v", part, got, j.LeftOut)
		}
	}
	alone := strings.Replace(strings.Replace(parts, "    other: {type: discard}\n", "", 1), "%s", "", 1)
	j, err := load(alone, variable+"write")
	if err != nil {
		t.Fatal(err)
	}
	if got := names(j); got != "queue store" || strings.Join(j.LeftOut, " ") != "gate in" {
		t.Errorf("write: nodes %s, left out %v", got, j.LeftOut)
	}
}

func names(j *job.Job) string {
	var all []string
	for _, n := range j.Nodes {
		all = append(all, n.Name)
	}
	return strings.Join(all, " ")
}

func TestAJobOfOnePartNeedsNoNodesForTheOther(t *testing.T) {
	writer := `
name: bars
dag:
  nodes:
    queue: {type: write_queue, durable: nats, durable_url: nats://nats, durable_part: write, durable_redeliver_after: 5s}
    store: {type: discard}
  edges: [[queue, store]]
`
	j, err := load(writer)
	if err != nil {
		t.Fatal(err)
	}
	if c := j.Nodes[0].Settings.(*job.WriteQueue).JetStream(); c.Accepts || !c.Writes || c.RedeliverAfter != 5*time.Second || c.Queue.Overflow != writequeue.Block {
		t.Errorf("settings %+v", c)
	}
	if _, err := load(strings.Replace(writer, "durable_part: write, ", "", 1)); err == nil || !strings.Contains(err.Error(), "no source reaches it") {
		t.Errorf("a process that accepts, without a source: %v", err)
	}
	acceptor := `
name: bars
dag:
  nodes:
    in: {type: synthetic}
    queue: {type: write_queue, durable: nats, durable_url: nats://nats, durable_part: accept}
  edges: [[in, queue]]
providers: {ibkr: {base_per_second: 500, burst: 100}}
`
	if _, err := load(acceptor); err != nil {
		t.Error(err)
	}
	if _, err := load(strings.Replace(acceptor, "accept", "both", 1)); err == nil || !strings.Contains(err.Error(), "exactly one sink behind a write queue") {
		t.Errorf("a process that writes, without a sink: %v", err)
	}
}

func TestTwoQueuesDoNotShareAFolder(t *testing.T) {
	_, err := load(`
name: bars
dag:
  nodes:
    in: {type: synthetic}
    a: {type: write_queue, durable: embedded, durable_directory: q}
    b: {type: write_queue, coordinator_id: b, dead_letter_path: b, durable: embedded, durable_directory: q}
    store: {type: discard}
  edges: [[in, a], [in, b], [a, store], [b, store]]
providers: {ibkr: {base_per_second: 500, burst: 100}}
`)
	if diff := cmp.Diff([]string{`jobs/job.yaml:7: dag.nodes.b is "durable_directory q", want a durable_directory of its own, for a has this one`}, messages(err)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsWrittenIsAcknowledgedOnlyWhereThatIsKnown(t *testing.T) {
	const file = `
name: bars
dag:
  nodes:
    in: {type: http, acknowledge: written}
    once: {type: %s}
    queue: {type: write_queue, %s}
    store: {type: discard}
  edges: [[in, once], [once, queue], [queue, store]]
providers: {ibkr: {base_per_second: 500, burst: 100}}
`
	const at = `jobs/job.yaml:5: dag.nodes.in.acknowledge is "written", want accepted, for behind it is `
	for _, test := range []struct{ transform, keys, want string }{
		{"rename", "workers: 1", ""},
		{"dedupe", "workers: 1", at + "once, which leaves out what is sent again, written or not"},
		{"rename", "durable: nats, durable_url: nats://nats", at + "queue, a durable queue, which keeps what it accepted"},
	} {
		_, err := load(fmt.Sprintf(file, test.transform, test.keys))
		if got := strings.Join(messages(err), "\n"); got != test.want {
			t.Errorf("%s, %s: got %s", test.transform, test.keys, got)
		}
	}
}
