package metrics

// Series of the controller.
const (
	ControllerTargets       = "headgate_controller_targets"
	ControllerLevel         = "headgate_controller_level"
	ControllerSignalAge     = "headgate_controller_signal_age_seconds"
	ControllerScaleWanted   = "headgate_controller_scale_wanted"
	ControllerScaleAsked    = "headgate_controller_scale_asked"
	ControllerScaleInForce  = "headgate_controller_scale_in_force"
	ControllerHeadroom      = "headgate_controller_headroom_items"
	ControllerThreshold     = "headgate_controller_threshold_items"
	ControllerObserved      = "headgate_controller_observed"
	ControllerDeadTime      = "headgate_controller_dead_time_seconds"
	ControllerStandby       = "headgate_controller_standby"
	ControllerDecisions     = "headgate_controller_decisions_total"
	ControllerApplyErrors   = "headgate_controller_apply_errors_total"
	ControllerQueries       = "headgate_controller_queries_total"
	ControllerQueryErrors   = "headgate_controller_query_errors_total"
	ControllerQueryWarnings = "headgate_controller_query_warnings_total"
	ControllerTickDuration  = "headgate_controller_tick_duration_seconds"
	ControllerBuildInfo     = "headgate_controller_build_info"
)

// LabelThreshold names a mark on the depth: soft_enter, soft_exit, hard_enter or
// hard_exit.
const LabelThreshold = "threshold"

// controllerSeries are what the controller says about itself.
func controllerSeries() []Series {
	target := []string{LabelTarget}
	line := []string{LabelTarget, LabelProvider}
	return []Series{
		{Name: ControllerTargets, Kind: Gauge, Labels: []string{LabelState},
			Help: "Targets by state: controlled, dry_run or disabled."},
		{Name: ControllerLevel, Kind: Gauge, Labels: target,
			Help: "Level of the target: 0 is OK, 1 is SOFT, 2 is HARD; the last one known where its signals are gone."},
		{Name: ControllerSignalAge, Kind: Gauge, Labels: target,
			Help: "Age of the oldest depth that the last decision was made of."},
		{Name: ControllerScaleWanted, Kind: Gauge, Labels: line,
			Help: "Scale that the last decision wants, from 0 to 1."},
		{Name: ControllerScaleAsked, Kind: Gauge, Labels: line,
			Help: "Scale that the coordinator was last asked to put in force, from 0 to 1; absent at standby and in a dry run."},
		{Name: ControllerScaleInForce, Kind: Gauge, Labels: line,
			Help: "Scale that the coordinator last answered to be in force, from 0 to 1."},
		{Name: ControllerHeadroom, Kind: Gauge, Labels: line,
			Help: "Items that the queue has room for at the worst, at the measured dead time and the least drain of the last hour; below 0 it may overflow."},
		{Name: ControllerThreshold, Kind: Gauge, Labels: []string{LabelTarget, LabelThreshold},
			Help: "Depth at which a level of the target begins or ends, at the capacity last seen."},
		{Name: ControllerObserved, Kind: Gauge, Labels: []string{LabelTarget, LabelCoordinatorID},
			Help: "1 for each coordinator that a target observes."},
		{Name: ControllerDeadTime, Kind: Gauge, Labels: line,
			Help: "Time from a change in the queue until the changed rate reaches the provider, as set or measured."},
		{Name: ControllerStandby, Kind: Gauge, Labels: line,
			Help: "1 while another controller holds the provider's lease, else 0."},
		{Name: ControllerDecisions, Kind: Counter, Labels: []string{LabelTarget, LabelReason},
			Help: "Decisions made, by reason."},
		{Name: ControllerApplyErrors, Kind: Counter, Labels: []string{LabelTarget, LabelProvider, LabelReason},
			Help: "Scales that could not be applied, by reason."},
		{Name: ControllerQueries, Kind: Counter,
			Help: "Queries sent to Prometheus."},
		{Name: ControllerQueryErrors, Kind: Counter,
			Help: "Queries to Prometheus that gave no snapshot."},
		{Name: ControllerQueryWarnings, Kind: Counter,
			Help: "Warnings that came with the answers of Prometheus."},
		{Name: ControllerTickDuration, Kind: Histogram,
			Help:    "Time from the start of a tick until the last scale of it was applied and read back.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}},
		{Name: ControllerBuildInfo, Kind: Gauge,
			Labels: []string{"branch", "goarch", "goos", "goversion", "revision", "tags", "version"},
			Help:   "1, with the version that the controller was built from as labels."},
	}
}
