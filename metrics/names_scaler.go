package metrics

// Series of the external scaler. Its gRPC calls are counted by the library's
// own grpc_server_ series beside them.
const (
	ScalerSignalAge     = "headgate_scaler_signal_age_seconds"
	ScalerReadFailures  = "headgate_scaler_read_failures_total"
	ScalerUnanswered    = "headgate_scaler_unanswered_total"
	ScalerStreams       = "headgate_scaler_streams"
	ScalerScaledObjects = "headgate_scaler_scaled_objects"
	ScalerStoreBound    = "headgate_scaler_store_bound"
	ScalerReplicaDrain  = "headgate_scaler_drain_per_replica_items_per_second"
	ScalerSignalsUsable = "headgate_scaler_signals_usable"
	labelScalerStream   = "stream"
)

func scalerSeries() []Series {
	coordinator := []string{LabelCoordinatorID}
	return []Series{
		{Name: ScalerSignalAge, Kind: Gauge, Help: "Time since the signals were read from Prometheus; absent before the first time."},
		{Name: ScalerSignalsUsable, Kind: Gauge, Help: "1 once the signals were read and the last reading went well, else 0."},
		{Name: ScalerReadFailures, Kind: Counter, Help: "Readings of the signals that failed."},
		{Name: ScalerUnanswered, Kind: Counter, Labels: []string{LabelReason},
			Help: "Questions that were answered Unavailable, for want of signals."},
		{Name: ScalerStreams, Kind: Gauge, Labels: []string{labelScalerStream}, Help: "Streams that are open."},
		{Name: ScalerScaledObjects, Kind: Gauge, Help: "ScaledObjects that have asked since the start."},
		{Name: ScalerStoreBound, Kind: Gauge, Labels: coordinator,
			Help: "1 while more replicas are not asked for because the last ones did not raise the drain, else 0."},
		{Name: ScalerReplicaDrain, Kind: Gauge, Labels: coordinator,
			Help: "Drain that one replica was seen to be capable of; absent until its queue was busy."},
	}
}
