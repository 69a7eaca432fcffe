// Package job reads a pipeline's job file: a graph of named nodes from sources
// over gates and transforms to a write queue and its store, the providers that
// the gates ask, and how the queue's feedback throttles them.
//
// A file is YAML or JSON. Every scalar key may also be given by an environment
// variable, which wins over the file. All that is wrong is reported at once,
// and reading a job changes nothing: no file is made and no port is opened.
package job

import (
	"time"

	"github.com/headgate/headgate/coordinator/redisbudget"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/settings"
	"github.com/headgate/headgate/trace"
	"github.com/headgate/headgate/writequeue"
	"github.com/headgate/headgate/writequeue/postgres"
	"github.com/headgate/headgate/writequeue/sqlite"
)

// Job is a job file that was found to be right, with its defaults filled in.
type Job struct {
	Top
	Providers []Provider // in the file's order
	Feedback  settings.Feedback
	Metrics   Metrics
	Nodes     []Node // each after all that feed it

	// LeftOut names the nodes that this process does not need, for it does a part
	// of a durable queue's work; sorted.
	LeftOut []string
}

// ModeGate is the mode of a job without a graph: its providers are for pipelines
// elsewhere, which acquire tokens and send feedback over HTTP.
const ModeGate = "gate"

// Top holds the keys that stand at the top of the file.
type Top struct {
	Mode     string `env:"mode, default=dag" oneof:"dag gate" help:"what the job is: a graph, or the gate alone, whose providers are served over HTTP to pipelines elsewhere"`
	Name     string `env:"name" required:"true" help:"name of the job; the coordinator_id of its write queue"`
	WhenDone string `env:"when_done, default=stop" oneof:"stop stay" help:"what happens when all sources have come to their end: the queue is emptied and the job stops, or it stays until it is told to stop"`
}

// Provider is a source of items with a rate budget.
type Provider struct {
	Name string // the key under providers

	BasePerSecond    float64       `env:"base_per_second" required:"true" min:"0.001" max:"1e9" help:"items per second at scale 1"`
	Burst            int           `env:"burst" required:"true" min:"1" max:"1000000000" help:"items that may pass at once after a pause; the scale never changes it"`
	FloorPerSecond   float64       `env:"floor_per_second, default=1" min:"0" max:"1e9" help:"items per second that pass at any scale; 0 parks the provider at scale 0"`
	InitialShare     float64       `env:"initial_share, default=1" min:"0.0001" max:"1" help:"part of base_per_second that is this replica's until a controller gives it its share, where several replicas share the budget; must be given with redis_url"`
	RedisURL         string        `env:"redis_url" secret:"true" help:"Redis or Valkey server that keeps the budget for all replicas together, exactly: redis://user:password@host:port/database, rediss:// with TLS, or unix:///path; a budget of this replica's own where empty. While the server is away the replica has its share of the budget"`
	RedisKey         string        `env:"redis_key" help:"key on that server; the replicas that give the same one share the budget, and give the same base_per_second and burst; headgate:budget: and the provider's name where empty"`
	CoolDown         time.Duration `env:"cool_down, default=600s" min:"0s" max:"24h" help:"how long a triggered cool-down lasts where nothing else is said"`
	BreakerFailures  int           `env:"breaker_failures, default=5" min:"1" max:"1000000" help:"failures in a row that open the provider's circuit breaker"`
	BreakerTimeout   time.Duration `env:"breaker_timeout, default=60s" min:"1ms" max:"24h" help:"how long the breaker stays open before one call is let through"`
	FailMode         string        `env:"fail_mode, default=safe" oneof:"hold open safe closed" help:"scale when the controller's lease has run out: the last one, 1, the SOFT scale, or 0"`
	StartsInFailMode bool          `env:"start_in_fail_mode, default=true" help:"whether the provider comes up at its fail mode until the first decision or event"`

	Shared redisbudget.Config // the budget on the server; its zero value where there is none
}

// Metrics holds the settings of the pipeline's HTTP server.
type Metrics struct {
	Listen          string        `env:"listen, default=127.0.0.1:9400" help:"address of the HTTP server: metrics, health, the coordinator's API, and the http sources that name no other"`
	ShutdownTimeout time.Duration `env:"shutdown_timeout, default=5s" min:"0s" max:"10m" help:"how long requests in progress may take to end when the pipeline stops"`
}

// Role is what a node does in the graph.
type Role string

const (
	RoleSource     Role = "source"
	RoleGate       Role = "gate"
	RoleTransform  Role = "transform"
	RoleWriteQueue Role = "write queue"
	RoleSink       Role = "sink"
)

// Node is one node of the graph.
type Node struct {
	Name     string
	Type     string
	Role     Role
	Settings any      // a pointer to one of the settings below, by type
	Next     []string // where its items go, in the order of the edges
}

// Kind describes a type of node.
type Kind struct {
	Type string
	Role Role
	Help string
	New  func() any // pointer to fresh settings
}

// Kinds lists the types of nodes.
func Kinds() []Kind {
	return []Kind{
		{"replay", RoleSource, "replays a recording: counts over time from a CSV, or items from NDJSON", func() any { return new(Replay) }},
		{"synthetic", RoleSource, "makes up a market's opening: a quiet time, two steps up within two seconds, storms, then a plateau", func() any { return new(Synthetic) }},
		{"http", RoleSource, "takes items by POST, one JSON object a line; answers 429 with Retry-After when there is no room", func() any { return new(HTTP) }},
		{"gate", RoleGate, "lets items through as fast as its provider's budget allows", func() any { return new(Gate) }},
		{"json_filter", RoleTransform, "keeps the items whose field has one of some values, or lies in a range", func() any { return new(Filter) }},
		{"rename", RoleTransform, "renames and removes fields", func() any { return new(Rename) }},
		{"dedupe", RoleTransform, "removes items whose field had the same value lately", func() any { return new(Dedupe) }},
		{"write_queue", RoleWriteQueue, "holds items until the sink behind it has written them", func() any { return new(WriteQueue) }},
		{"sqlite", RoleSink, "writes into a table of an SQLite file", func() any { return new(SQLite) }},
		{"postgres", RoleSink, "writes into a table of PostgreSQL or Timescale", func() any { return new(Postgres) }},
		{"discard", RoleSink, "writes nowhere", func() any { return new(Discard) }},
	}
}

// Offer holds what replay and synthetic sources have in common.
type Offer struct {
	KeyPrefix string        `env:"key_prefix" help:"beginning of the items' keys. With a prefix the same source gives the same keys in every run, so that a run that is repeated makes no second rows; where empty, each run has keys of its own"`
	MaxLag    time.Duration `env:"max_lag, default=0s" min:"0s" max:"24h" help:"items that come later than this after their time are skipped and counted; 0 skips none"`
}

// Replay is a source that replays a recording.
type Replay struct {
	File       string  `env:"file" required:"true" help:"file with the recording"`
	Format     string  `env:"format, default=auto" oneof:"auto counts items" help:"what the file holds: counts as t_seconds,value rows, or items as NDJSON; auto takes counts for .csv and items for all else"`
	Speed      float64 `env:"speed, default=1" min:"0.001" max:"100000" help:"how much faster than recorded counts are replayed"`
	Multiplier float64 `env:"multiplier, default=1" min:"0.000001" max:"1000000" help:"what counts are multiplied by"`
	PerSecond  float64 `env:"items_per_second, default=0" min:"0" max:"1e9" help:"how fast items from NDJSON are offered; 0 is as fast as the gate lets them in"`
	Loop       bool    `env:"loop, default=false" help:"begin again at the end"`
	KeyField   string  `env:"key_field, default=key" help:"field that holds the key of an item from NDJSON; where it is absent, the key is made of the file's content and the line"`
	Offer

	Counts      *trace.Trace // what the file holds, where it is counts
	Fingerprint string       // of the file's content
}

// Synthetic is a source that makes a market's opening up.
type Synthetic struct {
	Seed       int64         `env:"seed, default=1" help:"a seed gives the same items each time"`
	Scale      float64       `env:"scale, default=1" min:"0.000001" max:"1000000" help:"what all rates are multiplied by"`
	OpensAfter time.Duration `env:"opens_after, default=10s" min:"0s" max:"24h" help:"the quiet time before the market opens"`
	Duration   time.Duration `env:"duration, default=0s" min:"0s" max:"240h" help:"how long it goes on in all; 0 is without end"`
	Offer
}

// HTTP is a source that takes items by POST.
type HTTP struct {
	Path         string        `env:"path, default=/v1/items" help:"path that takes the items"`
	Listen       string        `env:"listen" help:"address of a server of its own; the pipeline's where empty"`
	KeyField     string        `env:"key_field, default=key" help:"field that holds an item's key"`
	MaxBodyBytes int64         `env:"max_body_bytes, default=4194304" min:"1" max:"1073741824" help:"largest body; a larger one is answered 413"`
	MaxItems     int           `env:"max_items, default=10000" min:"1" max:"10000000" help:"most items in one body; more are answered 413"`
	Wait         time.Duration `env:"wait, default=1s" min:"1ms" max:"10m" help:"how long a request waits for the gate and for room before it is answered 429"`
	Acknowledge  string        `env:"acknowledge, default=accepted" oneof:"accepted written" help:"when a request is answered: when its items are accepted into the queue, or when they are written to the store, for which it waits as long in all"`
	MaxRequests  int           `env:"max_requests, default=64" min:"1" max:"100000" help:"requests that may wait at once; more are answered 429"`
}

// Gate lets items through as its provider allows.
type Gate struct {
	Provider string `env:"provider, default=ibkr" help:"provider whose budget is asked"`
	Batch    int    `env:"batch, default=500" min:"1" max:"1000000" help:"most items that are asked for at once; never more than the burst, and fewer at low rates"`
}

// Filter keeps items by one field. All that is set must hold.
type Filter struct {
	Field   string   `env:"field" required:"true" help:"field that is looked at; a.b is b within a"`
	In      []string `env:"in" help:"values that are kept; all where empty"`
	NotIn   []string `env:"not_in" help:"values that are not kept"`
	Min     string   `env:"min" help:"least number that is kept"`
	Max     string   `env:"max" help:"largest number that is kept"`
	Missing string   `env:"missing, default=drop" oneof:"drop keep" help:"what happens to an item without the field"`
}

// Rename changes the names of fields.
type Rename struct {
	Fields []string `env:"fields" help:"pairs old=new; of fields at the top of the item"`
	Remove []string `env:"remove" help:"fields that are removed"`
}

// Dedupe removes repetitions.
type Dedupe struct {
	Field    string        `env:"field" help:"field whose value makes an item a repetition; a.b is b within a; the item's key where empty"`
	Remember int           `env:"remember, default=100000" min:"1" max:"10000000" help:"how many values are remembered; the oldest are forgotten first"`
	Within   time.Duration `env:"within, default=0s" min:"0s" max:"240h" help:"how long a value is remembered; 0 is as long as there is room"`
}

// WriteQueue holds the settings of a write queue.
type WriteQueue struct {
	CoordinatorID   string              `env:"coordinator_id" help:"name of the queue in series and events; the job's name where empty"`
	Capacity        int                 `env:"capacity, default=10000" min:"1" max:"100000000" help:"most items that may wait; of a durable queue, for all its processes together"`
	SoftEnter       pressure.Mark       `env:"soft_enter, default=50%" help:"SOFT above this depth"`
	HardEnter       pressure.Mark       `env:"hard_enter, default=80%" help:"HARD at or above this depth"`
	SoftExit        pressure.Mark       `env:"soft_exit" help:"OK again at or below this depth; soft_enter where empty"`
	HardExit        pressure.Mark       `env:"hard_exit" help:"no longer HARD below this depth; hard_enter where empty"`
	Overflow        writequeue.Overflow `env:"overflow, default=block" oneof:"block refuse drop_oldest" help:"what a full queue does: let the source wait, refuse, or drop what waited longest, which a durable queue cannot"`
	Workers         int                 `env:"workers, default=4" min:"1" max:"10000" help:"batches that are written at once"`
	BatchSize       int                 `env:"batch_size, default=500" min:"1" max:"1000000" help:"most items in a batch"`
	BatchWait       time.Duration       `env:"batch_wait, default=250ms" min:"0s" max:"1h" help:"longest that an item waits for its batch to fill"`
	RetryAttempts   int                 `env:"retry_attempts, default=5" min:"1" max:"1000000" help:"writes of a batch before it goes to the dead letters"`
	RetryInitial    time.Duration       `env:"retry_initial, default=50ms" min:"1ms" max:"1h" help:"pause before the second write; it doubles"`
	RetryMax        time.Duration       `env:"retry_max, default=2s" min:"1ms" max:"1h" help:"longest pause between two writes"`
	BreakerFailures int                 `env:"breaker_failures, default=5" min:"1" max:"1000000" help:"failed writes in a row after which the store is left alone"`
	BreakerTimeout  time.Duration       `env:"breaker_timeout, default=60s" min:"1ms" max:"24h" help:"how long it is left alone"`
	WriteTimeout    time.Duration       `env:"write_timeout, default=30s" min:"1ms" max:"1h" help:"longest that one write may take"`
	DrainTimeout    time.Duration       `env:"drain_timeout, default=30s" min:"0s" max:"24h" help:"how long the queue is emptied when the pipeline stops; what is left goes to the dead letters. A durable queue keeps it, and only ends the writes that are under way"`
	DeadLetterPath  string              `env:"dead_letter_path, default=dead-letters.ndjson" help:"file that takes what cannot be written; made at the start"`
	Durable

	Config writequeue.Config // the same for the queue itself
}

// Pace limits a sink to a profile, as if the store were that slow.
type Pace struct {
	PerSecond float64 `env:"pace_per_second, default=0" min:"0" max:"1e9" help:"rows per second that the store takes; 0 is no limit"`
	File      string  `env:"pace_file" help:"CSV profile t_seconds,value of rows per second; its last row is held"`
	Speed     float64 `env:"pace_speed, default=1" min:"0.001" max:"100000" help:"how much faster than written the profile goes"`

	Profile *trace.Trace // what the file holds; a single row for a constant; nil for no limit
}

// SQLite is a sink.
type SQLite struct {
	Path  string `env:"path" required:"true" help:"file of the database; made where absent"`
	Table string `env:"table, default=items" help:"table; made where absent"`

	Synchronous sqlite.Synchronous `env:"synchronous, default=normal" oneof:"normal full" help:"what a written batch survives: a crash of the process, or a loss of power too"`
	BusyTimeout time.Duration      `env:"busy_timeout, default=5s" min:"0s" max:"1h" help:"how long a write waits for another process that writes"`
	Pace

	Config sqlite.Config // the same for the store itself
}

// Postgres is a sink.
type Postgres struct {
	URL   string `env:"url" required:"true" secret:"true" help:"where the server is: postgres://user:password@host/database"`
	Table string `env:"table, default=items" help:"table, with its schema if need be; made where absent"`

	KeyColumns []string             `env:"key_columns, default=key" help:"primary key of a table that is made: key, or key,time as a hypertable needs it; then an item that is sent again with another time is another row"`
	Payload    postgres.PayloadType `env:"payload, default=bytea" oneof:"bytea jsonb text" help:"type of the payload in a table that is made"`
	Pace

	Config postgres.Config // the same for the store itself
}

// Discard is a sink.
type Discard struct {
	Pace
}
