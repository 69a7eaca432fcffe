package job

import (
	"io"
	"slices"
	"time"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/writequeue/jetstream"
	"github.com/headgate/headgate/writequeue/jetstream/embedded"
)

// Where a write queue lives.
const (
	InMemory = "none"     // of this process
	Embedded = "embedded" // in files, by a NATS server within the process
	Servers  = "nats"     // in JetStream of NATS servers
)

// What a process does with a durable queue.
const (
	Accepts = "accept"
	Writes  = "write"
)

// Durable holds the settings of a write queue that outlives its process.
type Durable struct {
	Kind string `env:"durable, default=none" oneof:"none embedded nats" help:"where the queue lives: none, in the memory of this process; embedded, in files, by a NATS server within the process; nats, in JetStream of NATS servers"`
	Part string `env:"durable_part, default=both" oneof:"both accept write" help:"what this process does with the queue: accept, put items in; write, write them to the sink; of the nodes those that the part does not need are left out"`

	Directory   string `env:"durable_directory" help:"embedded: folder of the server's files, of one process at a time; made where absent"`
	Listen      string `env:"durable_listen" help:"embedded: loopback address at which other processes of the machine reach the queue; none where empty"`
	Synchronous string `env:"durable_synchronous, default=normal" oneof:"normal full" help:"embedded: what an accepted item survives: a crash of the process, or a loss of power too"`

	URL             string `env:"durable_url" secret:"true" help:"nats: where the servers are: nats://host:4222, or tls://, several with commas between them; a user and a password or a token may stand before the host with an @"`
	CredentialsFile string `env:"durable_credentials_file" help:"nats: credentials file of NATS; none where empty"`
	CAFile          string `env:"durable_ca_file" help:"nats: certificates that those of the servers are signed by; the system's where empty"`
	CertFile        string `env:"durable_cert_file" help:"nats: certificate of this process; none where empty"`
	KeyFile         string `env:"durable_key_file" help:"nats: key of the certificate"`

	Stream           string        `env:"durable_stream" help:"name of the stream that holds the items; headgate- and the coordinator_id where empty"`
	StreamReplicas   int           `env:"durable_stream_replicas, default=1" min:"1" max:"5" help:"nats: servers that keep each item"`
	DuplicatesWithin time.Duration `env:"durable_duplicates_within, default=2m" min:"1s" max:"24h" help:"how long the keys of accepted items are remembered, so that one that is sent again is not a second one"`
	RedeliverAfter   time.Duration `env:"durable_redeliver_after, default=30s" min:"1s" max:"24h" help:"how long an item stays with a process that is not heard of any more, before another one writes it"`
}

// Is reports whether the queue outlives its process.
func (d Durable) Is() bool { return d.Kind != InMemory }

// Accepts reports whether this process puts items into the queue.
func (v *WriteQueue) Accepts() bool { return !v.Is() || v.Part != Writes }

// Writes reports whether this process writes the queue's items to the sink.
func (v *WriteQueue) Writes() bool { return !v.Is() || v.Part != Accepts }

// Address is where the servers of a queue are that lives in NATS.
func (d Durable) Address() jetstream.Address {
	return jetstream.Address{URL: d.URL, CredentialsFile: d.CredentialsFile, CAFile: d.CAFile, CertFile: d.CertFile, KeyFile: d.KeyFile}
}

// JetStream is the same for the queue itself.
func (v *WriteQueue) JetStream() jetstream.Config {
	c := jetstream.DefaultConfig(v.CoordinatorID)
	c.Queue = v.Config
	c.Stream, c.StreamReplicas = v.Stream, v.StreamReplicas
	c.DuplicatesWithin, c.RedeliverAfter = v.DuplicatesWithin, v.RedeliverAfter
	c.Accepts, c.Writes = v.Accepts(), v.Writes()
	c.Shared = v.Kind == Servers || v.Listen != ""
	return c
}

// durable checks what a durable queue needs, and that nothing is given which the
// queue does not look at.
func (s *section) durable(v *WriteQueue) {
	if v.Stream == "" {
		v.Stream = jetstream.StreamName(v.CoordinatorID)
	}
	keysOf := map[string][]string{
		Embedded: {"durable_directory", "durable_listen", "durable_synchronous"},
		Servers:  {"durable_url", "durable_credentials_file", "durable_ca_file", "durable_cert_file", "durable_key_file", "durable_stream_replicas"},
	}
	for _, kind := range []string{Embedded, Servers} {
		for _, key := range keysOf[kind] {
			if v.Kind != kind && s.from[key].text != "" {
				got := s.from[key].text
				if key == "durable_url" {
					got = "set"
				}
				s.report(key, got, "no value, or "+s.field("durable")+" to be "+kind)
			}
		}
	}
	switch v.Kind {
	case InMemory:
		if v.Part != "both" {
			s.report("durable_part", v.Part, "both, for a queue in memory has one process")
		}
		return
	case Embedded:
		if v.Directory == "" {
			s.missing("durable_directory", "a folder for the queue's files")
		} else {
			s.folder("durable_directory", v.Directory)
		}
		if v.Listen != "" {
			s.checkDurable(embedded.ValidateListen(v.Listen))
		} else if v.Part != "both" {
			s.report("durable_part", v.Part, "both, or "+s.field("durable_listen")+" for the processes that do the other part")
		}
	case Servers:
		for _, file := range []struct {
			key  string
			path *string
		}{
			{"durable_credentials_file", &v.CredentialsFile}, {"durable_ca_file", &v.CAFile},
			{"durable_cert_file", &v.CertFile}, {"durable_key_file", &v.KeyFile},
		} {
			if *file.path != "" {
				s.resolvePath(file.key, file.path)
				s.r.file(s, file.key, *file.path, func(io.Reader) error { return nil })
			}
		}
		if v.URL == "" {
			s.missing("durable_url", "the address of the servers, such as nats://127.0.0.1:4222")
		} else {
			s.checkDurable(v.Address().Validate())
		}
	}
}

func (s *section) missing(key, want string) {
	if !s.wrong[key] {
		s.r.errs = append(s.r.errs, invalid.Missing(s.field(key), want))
	}
}

// checkDurable is check for what names the keys of a durable queue without their
// beginning.
func (s *section) checkDurable(err error) {
	for _, v := range invalid.All(err) {
		if key := "durable_" + v.Field; slices.Contains(s.keys, key) {
			v.Field = key
		}
		s.check(v)
	}
}

// prune leaves out the nodes that this process' part in its durable queues does
// not need: what brings items to a queue that it only writes, and the sink of one
// that it only puts items into.
func (g *graph) prune() (left []string) {
	for i := range g.nodes {
		n := &g.nodes[i]
		n.Next = slices.DeleteFunc(n.Next, func(to string) bool {
			q, is := g.node(to).Settings.(*WriteQueue)
			return is && !q.Accepts()
		})
		if q, is := n.Settings.(*WriteQueue); is && !q.Writes() {
			n.Next = nil
		}
	}
	for {
		fed := map[string]bool{}
		for _, n := range g.nodes {
			for _, to := range n.Next {
				fed[to] = true
			}
		}
		gone := map[string]bool{}
		for _, n := range g.nodes {
			switch n.Role {
			case RoleWriteQueue:
			case RoleSink:
				gone[n.Name] = !fed[n.Name]
			default:
				gone[n.Name] = len(n.Next) == 0
			}
		}
		before := len(g.nodes)
		for _, n := range g.nodes {
			if gone[n.Name] {
				left = append(left, n.Name)
			}
		}
		g.nodes = slices.DeleteFunc(g.nodes, func(n Node) bool { return gone[n.Name] })
		for i := range g.nodes {
			g.nodes[i].Next = slices.DeleteFunc(g.nodes[i].Next, func(to string) bool { return gone[to] })
		}
		if len(g.nodes) == before {
			break
		}
	}
	clear(g.from)
	for _, n := range g.nodes {
		for _, to := range n.Next {
			g.from[to] = append(g.from[to], n.Name)
		}
	}
	slices.Sort(left)
	return left
}

// accepts reports whether items enter a queue of the job in this process.
func (g *graph) accepts() bool {
	return slices.ContainsFunc(g.nodes, func(n Node) bool {
		q, is := n.Settings.(*WriteQueue)
		return is && q.Accepts()
	})
}
