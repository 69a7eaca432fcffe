package settings

import (
	"slices"
	"time"

	"github.com/headgate/headgate/pressure"
)

// Controller holds the settings of cmd/controller.
type Controller struct {
	Log          Log
	Ports        Ports
	Prometheus   Prometheus
	Coordinators Coordinators

	Listen        string `env:"HEADGATE_CONTROLLER_LISTEN, default=127.0.0.1:8080" form:"host:port" help:"address of the controller's HTTP server"`
	WebConfigFile string `env:"HEADGATE_CONTROLLER_WEB_CONFIG_FILE" help:"Prometheus web configuration file with TLS and users for the HTTP server"`
	AccessFile    string `env:"HEADGATE_CONTROLLER_ACCESS_FILE" help:"YAML file with the clients of the HTTP server, by tokens or certificate names, and their roles; read anew when it changes"`

	Interval     time.Duration `env:"HEADGATE_INTERVAL, default=5s" min:"100ms" max:"5m" help:"time from one look at the signals to the next"`
	ApplyTimeout time.Duration `env:"HEADGATE_APPLY_TIMEOUT, default=2s" min:"10ms" max:"1m" help:"how long one coordinator may take to answer"`
	Holder       string        `env:"HEADGATE_HOLDER" help:"name under which this controller holds its leases; the host's name and the process' number where empty"`
	Decisions    int           `env:"HEADGATE_DECISIONS, default=100" min:"1" max:"10000" help:"how many decisions are kept for each target; fewer where all targets together had more than 20,000"`
	TargetsFile  string        `env:"HEADGATE_TARGETS_FILE" help:"YAML file with many targets; its keys are the target's settings in lower case without their prefix, each with the environment as its default"`

	Sharding Sharding
	Target   Target
	Tracing  Tracing
}

// Sharding says which part of the targets a controller keeps.
type Sharding struct {
	Of    int `env:"HEADGATE_SHARDS, default=1" min:"1" max:"10000" help:"how many controllers divide the targets among themselves; the same for all of them"`
	Index int `env:"HEADGATE_SHARD, default=-1" min:"-1" max:"9999" help:"which of them this one is, counted from 0 as a StatefulSet counts its pods; needed where there is more than one"`
}

// Scaler holds the settings of cmd/external-scaler.
type Scaler struct {
	Log          Log
	Ports        Ports
	Prometheus   Prometheus
	Coordinators Coordinators
	Series       Series

	Listen        string `env:"HEADGATE_SCALER_LISTEN, default=127.0.0.1:8081" form:"host:port" help:"address of the scaler's HTTP server"`
	WebConfigFile string `env:"HEADGATE_SCALER_WEB_CONFIG_FILE" help:"Prometheus web configuration file with TLS and users for the HTTP server"`
	AccessFile    string `env:"HEADGATE_SCALER_ACCESS_FILE" help:"YAML file with the clients of both servers, by tokens or certificate names, and their roles; read anew when it changes"`

	GRPCListen        string   `env:"HEADGATE_SCALER_GRPC_LISTEN, default=127.0.0.1:6000" form:"host:port" help:"address on which KEDA reaches the scaler"`
	GRPCWebConfigFile string   `env:"HEADGATE_SCALER_GRPC_WEB_CONFIG_FILE" help:"Prometheus web configuration file whose tls_server_config is used for gRPC"`
	ClientNames       []string `env:"HEADGATE_SCALER_CLIENT_NAMES" help:"names of the client certificates that may call the scaler; any verified one where empty"`

	Interval   time.Duration `env:"HEADGATE_SCALER_INTERVAL, default=5s" min:"100ms" max:"5m" help:"time from one look at the signals to the next"`
	StaleAfter time.Duration `env:"HEADGATE_SCALER_STALE_AFTER, default=30s" min:"1s" max:"1h" help:"age at which a sample is no longer answered with"`

	DefaultsFile string `env:"HEADGATE_SCALER_DEFAULTS_FILE" help:"YAML file with target values and other defaults of triggers, by metric and by ScaledObject; read anew when it changes"`

	CoordinatorURLs []string `env:"HEADGATE_SCALER_COORDINATOR_URLS" help:"coordinators whose stream of changes wakes the scaler before its interval is over"`
}

// Operator holds the settings of cmd/controller's operator commands, which ask a
// controller that runs elsewhere.
type Operator struct {
	URL              string        `env:"HEADGATE_CONTROLLER_URL, default=http://127.0.0.1:8080" help:"base address of the controller that the operator's commands ask"`
	ClientConfigFile string        `env:"HEADGATE_CONTROLLER_CLIENT_CONFIG_FILE" help:"YAML file with Prometheus' own HTTP client settings, by which the operator's commands reach a controller that asks for TLS or a password"`
	Timeout          time.Duration `env:"HEADGATE_CONTROLLER_TIMEOUT, default=10s" min:"100ms" max:"5m" help:"how long one answer to the operator's commands may take"`
	Name             string        `env:"HEADGATE_OPERATOR" help:"name under which overrides are set and cleared; the user's at the host's where empty"`
}

// Ports says what holds of all ports of a binary.
type Ports struct {
	AllowUnauthenticated bool `env:"HEADGATE_ALLOW_UNAUTHENTICATED, default=false" help:"serve everyone who can reach a port beyond this machine, where nothing else says who may"`
}

// Coordinators says how coordinators are asked.
type Coordinators struct {
	ClientConfigFile string `env:"HEADGATE_COORDINATOR_CLIENT_CONFIG_FILE" help:"YAML file with Prometheus' own HTTP client settings, by which coordinators are reached that ask for TLS or a token"`
}

// Log says how a binary logs, always to its standard error.
type Log struct {
	Level  string `env:"HEADGATE_LOG_LEVEL, default=info" oneof:"debug info warn error" help:"least severity that is logged"`
	Format string `env:"HEADGATE_LOG_FORMAT, default=logfmt" oneof:"logfmt json" help:"form of a log record"`
}

// Tracing holds those of OpenTelemetry's own variables that say whether and where
// traces are sent. The SDK reads these and all the others by itself; here they are
// so that --help lists them, and so that what is wrong is told at the start.
type Tracing struct {
	Disabled       bool   `env:"OTEL_SDK_DISABLED, default=false" help:"no traces, whatever the other variables say"`
	Exporter       string `env:"OTEL_TRACES_EXPORTER" help:"otlp to send traces, none to send none; where empty they are sent if an endpoint is set"`
	Endpoint       string `env:"OTEL_EXPORTER_OTLP_ENDPOINT" help:"base address of the collector for OTLP over HTTP, such as http://127.0.0.1:4318, which is the one where traces are asked for without an address; /v1/traces is added"`
	TracesEndpoint string `env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" help:"address to which the traces are sent, instead of the base address and used as it is"`
	Protocol       string `env:"OTEL_EXPORTER_OTLP_PROTOCOL" help:"http/protobuf or http/json; http/protobuf where empty; there is no grpc"`
	TracesProtocol string `env:"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" help:"the same for traces, instead of it"`
	ServiceName    string `env:"OTEL_SERVICE_NAME, default=headgate-controller" help:"name of the service in the traces"`
	Sampler        string `env:"OTEL_TRACES_SAMPLER, default=parentbased_always_on" help:"which ticks are traced: always_on, always_off, traceidratio, or one of these after parentbased_"`
	SamplerArg     string `env:"OTEL_TRACES_SAMPLER_ARG" help:"share of the ticks for traceidratio, 0 to 1; 1 where empty"`
}

// Prometheus says where the signals are read.
type Prometheus struct {
	URL              string        `env:"HEADGATE_PROMETHEUS_URL, default=http://127.0.0.1:9090" help:"base address of the Prometheus server, or of anything with its query API"`
	ClientConfigFile string        `env:"HEADGATE_PROMETHEUS_CLIENT_CONFIG_FILE" help:"YAML file with Prometheus' own HTTP client settings: TLS, basic and bearer authentication, OAuth 2, proxy"`
	Timeout          time.Duration `env:"HEADGATE_QUERY_TIMEOUT, default=4s" min:"50ms" max:"1m" help:"how long one query may take"`
}

// Series says under which names a coordinator exports its signals. A name that
// is "none" says that there is no such series; only the depth is required.
type Series struct {
	Depth    string `env:"HEADGATE_SERIES_DEPTH, default=coordinator_queue_depth" help:"gauge: items waiting"`
	Capacity string `env:"HEADGATE_SERIES_CAPACITY, default=coordinator_queue_capacity" help:"gauge: most items that may wait, or none"`
	Soft     string `env:"HEADGATE_SERIES_SOFT, default=coordinator_backpressure_soft" help:"gauge: 1 while the coordinator itself says SOFT, or none"`
	Hard     string `env:"HEADGATE_SERIES_HARD, default=coordinator_backpressure_hard" help:"gauge: 1 while the coordinator itself says HARD, or none"`
	Shared   string `env:"HEADGATE_SERIES_SHARED, default=coordinator_queue_shared" help:"gauge: 1 where all replicas tell of one queue that they share, so that depth and capacity are not added up, or none"`
	Accepted string `env:"HEADGATE_SERIES_ACCEPTED, default=coordinator_items_accepted_total" help:"counter: items that entered the queue, or none"`
	Written  string `env:"HEADGATE_SERIES_WRITTEN, default=coordinator_items_written_total" help:"counter: items that the store took, or none"`
	Dropped  string `env:"HEADGATE_SERIES_DROPPED, default=coordinator_items_dropped_total" help:"counter: items lost by the overflow setting, or none"`

	CoordinatorLabel string `env:"HEADGATE_COORDINATOR_LABEL, default=coordinator_id" help:"label that names the coordinator"`
	Matchers         string `env:"HEADGATE_MATCHERS" help:"further label matchers for every series, such as job=\"bars\",env=\"prod\""`
}

// Target holds the settings of one target: what is observed, what is
// throttled, and how.
type Target struct {
	Name           string   `env:"HEADGATE_TARGET" help:"name of the target; the first coordinator's where empty"`
	CoordinatorIDs []string `env:"HEADGATE_COORDINATOR_IDS" help:"coordinators whose queues are observed"`
	CoordinatorURL string   `env:"HEADGATE_COORDINATOR_URL, default=http://127.0.0.1:9400" help:"base address of the coordinator whose provider is throttled; of several replicas that share its budget a list separated by commas, dns+http://name:port for all addresses of a name, or series+http:// (with another port, series+http://:9400) for the instances that Prometheus shows"`
	Provider       string   `env:"HEADGATE_PROVIDER, default=ibkr" help:"provider that is throttled"`

	Share string `env:"HEADGATE_SHARE, default=equal" oneof:"equal demand" help:"how several replicas share the provider's budget: each the same, or by what each uses of it"`

	Enabled bool `env:"HEADGATE_ENABLED, default=true" help:"whether the target is controlled at all"`
	DryRun  bool `env:"HEADGATE_DRY_RUN, default=false" help:"decide and explain, apply nothing"`

	Combine string  `env:"HEADGATE_COMBINE, default=worst" oneof:"worst weights share" help:"how this target's scale becomes one with those of other targets that throttle the same provider: the lowest, or the mean by weight or by share of the arrivals"`
	Weight  float64 `env:"HEADGATE_WEIGHT, default=1" min:"0.001" max:"1000" help:"weight of this target's scale where they are combined by weights"`

	QueueCapacity float64       `env:"HEADGATE_QUEUE_CAPACITY, default=0" min:"0" max:"1e12" help:"items that may wait at most, for a coordinator that does not export it; 0 is to read the series"`
	SoftEnter     pressure.Mark `env:"HEADGATE_SOFT_ENTER, default=50%" help:"SOFT above this depth"`
	SoftExit      pressure.Mark `env:"HEADGATE_SOFT_EXIT, default=40%" help:"OK again at or below this depth"`
	HardEnter     pressure.Mark `env:"HEADGATE_HARD_ENTER, default=80%" help:"HARD at or above this depth"`
	HardExit      pressure.Mark `env:"HEADGATE_HARD_EXIT, default=70%" help:"no longer HARD below this depth"`
	LevelFor      time.Duration `env:"HEADGATE_LEVEL_FOR, default=0s" min:"0s" max:"1h" help:"how long the depth must ask for a worse level before it is believed"`
	CoolDown      time.Duration `env:"HEADGATE_COOL_DOWN, default=10s" min:"0s" max:"1h" help:"how long a level lasts at least before it falls"`

	Policy string `env:"HEADGATE_POLICY, default=step" oneof:"step linear exponential pid drain" help:"law that makes a scale of the signals"`
	Scales Scales
	Law    Law
	Guard  Guard

	Lease      time.Duration `env:"HEADGATE_LEASE, default=15s" min:"1s" max:"1h" help:"how long an applied scale lasts without renewal; at least two intervals. One that does not change is renewed when half of it is over, and when three intervals are left"`
	StaleAfter time.Duration `env:"HEADGATE_STALE_AFTER, default=30s" min:"1s" max:"1h" help:"age at which a sample is no longer decided on"`
	FailMode   string        `env:"HEADGATE_FAIL_MODE, default=safe" oneof:"hold open safe closed" help:"scale where the signals are gone: the last one, 1, the SOFT scale, or 0"`

	Series Series
}

// Law holds the settings of the laws beside the scales.
type Law struct {
	DeadTime time.Duration `env:"HEADGATE_DEAD_TIME, default=0s" min:"0s" max:"1h" help:"time from a change in the queue until the changed rate reaches the provider; 0s is to measure it"`

	BackoffSoft       float64 `env:"HEADGATE_BACKOFF_SOFT, default=0.9" min:"0.01" max:"0.999" help:"exponential: factor on the scale in each dead time at SOFT"`
	BackoffHard       float64 `env:"HEADGATE_BACKOFF_HARD, default=0.5" min:"0.01" max:"0.999" help:"exponential: factor on the scale in each dead time at HARD"`
	RecoveryPerSecond float64 `env:"HEADGATE_RECOVERY_PER_SECOND, default=0.01" min:"0.00001" max:"100" help:"exponential: what is added to the scale while OK"`

	PIDGain         float64 `env:"HEADGATE_PID_GAIN, default=0.5" min:"0.001" max:"10" help:"pid: gain, in parts of one over base rate and dead time"`
	PIDIntegralTime float64 `env:"HEADGATE_PID_INTEGRAL_TIME, default=8" min:"0.1" max:"1000" help:"pid: integral time, in dead times"`
	PIDDerivative   float64 `env:"HEADGATE_PID_DERIVATIVE, default=0" min:"0" max:"100" help:"pid: derivative time, in dead times"`
	PIDSetPoint     float64 `env:"HEADGATE_PID_SET_POINT, default=0.5" min:"0.01" max:"1" help:"pid: depth to hold, as a share of the mark at which SOFT begins"`
}

// Guard holds the limits on what a law may do.
type Guard struct {
	HardCap          float64       `env:"HEADGATE_HARD_CAP, default=-1" min:"-1" max:"1" help:"most scale at HARD, whatever the law says; -1 is the HARD scale, and no cap for pid and drain, which hold the depth by themselves"`
	MinScale         float64       `env:"HEADGATE_MIN_SCALE, default=0" min:"0" max:"1" help:"least scale at OK and SOFT"`
	RisePerSecond    float64       `env:"HEADGATE_RISE_PER_SECOND, default=0" min:"0" max:"100" help:"by how much the scale may rise; 0 is without a limit"`
	ResumeWithin     time.Duration `env:"HEADGATE_RESUME_WITHIN, default=0s" min:"0s" max:"1h" help:"time over which parked providers come back one after another; 0s is at once"`
	ReversalsPerHour int           `env:"HEADGATE_REVERSALS_PER_HOUR, default=0" min:"0" max:"100000" help:"how often the scale may change its direction; 0 is without a limit"`
}

// Feedback holds the settings of a pipeline's own feedback, under the names
// that the original system gave them.
type Feedback struct {
	Enable       bool   `env:"MDP_FB_ENABLE_FEEDBACK, default=true" help:"whether the write queue's level throttles the provider in the process"`
	ProviderName string `env:"MDP_FB_PROVIDER_NAME, default=ibkr" help:"provider that the feedback throttles"`
	Policy       string `env:"MDP_FB_POLICY, default=step" help:"law of the in-process feedback: step, which follows the queue's events; linear, exponential, pid or drain, which look at the queue 50 times a second; or one that the program registers"`

	EventTTL time.Duration `env:"MDP_FB_EVENT_TTL, default=0s" min:"0s" max:"1h" help:"how long an event counts without another one of the same coordinator in a job of the mode gate, after which the provider goes to its fail mode; 0s is until the next one"`

	Scales Scales
}

// Scales are those of the step policy, one for each level.
type Scales struct {
	OK   float64 `env:"MDP_FB_SCALE_OK, default=1.0" min:"0" max:"1" help:"scale of the step policy at OK"`
	Soft float64 `env:"MDP_FB_SCALE_SOFT, default=0.5" min:"0" max:"1" help:"scale of the step policy at SOFT, and the one of the fail mode safe"`
	Hard float64 `env:"MDP_FB_SCALE_HARD, default=0.0" min:"0" max:"1" help:"scale of the step policy at HARD"`
}

// Pipeline holds the settings of cmd/pipeline beside its job file.
type Pipeline struct {
	Log           Log
	Ports         Ports
	WebConfigFile string `env:"HEADGATE_PIPELINE_WEB_CONFIG_FILE" help:"Prometheus web configuration file with TLS and users for the pipeline's HTTP servers"`
	AccessFile    string `env:"HEADGATE_PIPELINE_ACCESS_FILE" help:"YAML file with the clients of the HTTP servers, by tokens or certificate names, and their roles; read anew when it changes"`
	GrantJournal  string `env:"HEADGATE_PIPELINE_GRANT_JOURNAL" help:"file to which every granted acquire is appended as CSV, for audits; none where empty"`

	Feedback Feedback
}

// Section is a group of settings under one title, as the docs show them.
type Section struct {
	Title     string
	Variables []Variable
}

// Sections lists the variables of all binaries, each once: the structs above,
// each without those that it holds.
func Sections() []Section {
	return []Section{
		{"All binaries", slices.Concat(ownVariables(Log{}), ownVariables(Ports{}))},
		{"Controller and scaler: Prometheus", ownVariables(Prometheus{})},
		{"Controller and scaler: coordinators", ownVariables(Coordinators{})},
		{"Controller and scaler: names of the series", ownVariables(Series{})},
		{"Controller", ownVariables(Controller{})},
		{"Controller: one of several", ownVariables(Sharding{})},
		{"Controller: each target", ownVariables(Target{})},
		{"Controller and pipeline: scales of the levels", ownVariables(Scales{})},
		{"Controller: the laws", ownVariables(Law{})},
		{"Controller: limits on any law", ownVariables(Guard{})},
		{"Controller: the operator's commands", ownVariables(Operator{})},
		{"Controller: traces, by OpenTelemetry's own variables", ownVariables(Tracing{})},
		{"External scaler", ownVariables(Scaler{})},
		{"Pipeline", ownVariables(Pipeline{})},
		{"Pipeline: feedback", ownVariables(Feedback{})},
	}
}

// All lists the variables of all binaries, each once, as Sections orders them.
func All() []Variable {
	var all []Variable
	for _, section := range Sections() {
		all = append(all, section.Variables...)
	}
	return all
}
