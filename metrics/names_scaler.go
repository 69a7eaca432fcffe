package metrics

// Series of the external scaler. Its gRPC calls are counted by the library's
// own grpc_server_ series beside them.
const (
	ScalerSignalAge     = "headgate_scaler_signal_age_seconds"
	ScalerSignalsUsable = "headgate_scaler_signals_usable"
	ScalerReads         = "headgate_scaler_reads_total"
	ScalerReadFailures  = "headgate_scaler_read_failures_total"
	ScalerReadDuration  = "headgate_scaler_read_duration_seconds"
	ScalerPushedEvents  = "headgate_scaler_pushed_events_total"
	ScalerUnanswered    = "headgate_scaler_unanswered_total"
	ScalerPanics        = "headgate_scaler_panics_total"
	ScalerStreams       = "headgate_scaler_streams"
	ScalerStreamSends   = "headgate_scaler_stream_sends_total"
	ScalerTriggers      = "headgate_scaler_triggers"
	ScalerGuards        = "headgate_scaler_guards_total"
	ScalerDefaultsGood  = "headgate_scaler_defaults_good"

	ScalerValue          = "headgate_scaler_value"
	ScalerTarget         = "headgate_scaler_target_value"
	ScalerActive         = "headgate_scaler_active"
	ScalerSampleAge      = "headgate_scaler_sample_age_seconds"
	ScalerReplicas       = "headgate_scaler_replicas"
	ScalerReplicasWanted = "headgate_scaler_replicas_wanted"
	ScalerStoreBound     = "headgate_scaler_store_bound"
	ScalerReplicaDrain   = "headgate_scaler_drain_per_replica_items_per_second"

	ScalerBuildInfo = "headgate_scaler_build_info"
)

// Labels of the scaler's series.
const (
	LabelScaledObject = "scaled_object" // namespace/name
	LabelMetric       = "metric"        // of a trigger
	LabelGuard        = "guard"         // one of replicas.Causes
	labelScalerStream = "stream"
)

func scalerSeries() []Series {
	trigger := []string{LabelScaledObject, LabelMetric, LabelTarget}
	return []Series{
		{Name: ScalerSignalAge, Kind: Gauge, Help: "Time since the signals were read from Prometheus; absent before the first time."},
		{Name: ScalerSignalsUsable, Kind: Gauge, Help: "1 once the signals were read and the last reading went well, else 0."},
		{Name: ScalerReads, Kind: Counter, Help: "Readings of the signals, each one query to Prometheus."},
		{Name: ScalerReadFailures, Kind: Counter, Help: "Readings of the signals that failed."},
		{Name: ScalerReadDuration, Kind: Histogram, Help: "Time that a reading of the signals took.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}},
		{Name: ScalerPushedEvents, Kind: Counter, Help: "Events that coordinators told of themselves, ahead of Prometheus."},
		{Name: ScalerUnanswered, Kind: Counter, Labels: []string{LabelReason},
			Help: "Questions that got no answer, for want of signals or because of wrong metadata."},
		{Name: ScalerPanics, Kind: Counter, Help: "Calls that failed because of a fault of the program."},
		{Name: ScalerStreams, Kind: Gauge, Labels: []string{labelScalerStream}, Help: "Streams that are open."},
		{Name: ScalerStreamSends, Kind: Counter, Labels: []string{labelScalerStream}, Help: "Messages sent on streams."},
		{Name: ScalerTriggers, Kind: Gauge, Help: "Triggers that have asked within the last hour."},
		{Name: ScalerGuards, Kind: Counter, Labels: []string{LabelGuard},
			Help: "Times that a guard began to decide on a number of replicas."},
		{Name: ScalerDefaultsGood, Kind: Gauge, Help: "1 while the defaults file is as it was last read, 0 while it is wrong; absent without one."},
		{Name: ScalerValue, Kind: Gauge, Labels: trigger, Help: "Value that was last answered."},
		{Name: ScalerTarget, Kind: Gauge, Labels: trigger, Help: "Target value of the trigger."},
		{Name: ScalerActive, Kind: Gauge, Labels: trigger, Help: "1 if the trigger was last answered to be active, else 0."},
		{Name: ScalerSampleAge, Kind: Gauge, Labels: trigger, Help: "Age of the oldest sample that the trigger's value is made of."},
		{Name: ScalerReplicas, Kind: Gauge, Labels: trigger, Help: "Replicas that write, as Prometheus has them."},
		{Name: ScalerReplicasWanted, Kind: Gauge, Labels: trigger,
			Help: "Replicas that the autoscaler makes of the last answer, before its own bounds."},
		{Name: ScalerStoreBound, Kind: Gauge, Labels: trigger,
			Help: "1 while more replicas are not asked for because the last ones did not raise the drain, else 0."},
		{Name: ScalerReplicaDrain, Kind: Gauge, Labels: trigger,
			Help: "Drain that one replica is held to be capable of; absent until it is known."},
		{Name: ScalerBuildInfo, Kind: Gauge,
			Labels: []string{"branch", "goarch", "goos", "goversion", "revision", "tags", "version"},
			Help:   "1, with the version that the scaler was built from as labels."},
	}
}
