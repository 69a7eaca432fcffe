package dashboards

// loop shows the controller and the scaler at work.
func loop() *board {
	b := newBoard("headgate-loop", "Loop",
		"The loop itself: how fast it decides, whether it sees and is heard, and what it answers KEDA.",
		datasourceVariable(), namespaceVariable(), targetsVariable(), providerVariable())

	b.row("Controller")
	b.add(
		lines(panel{"Tick time", "Time from the start of a tick until its last scale was applied and read back: half of the ticks, and all but one in a hundred. It must stay well below the interval.", unitSeconds, half},
			query{`histogram_quantile(0.5, sum by (le, instance) (rate(headgate_controller_tick_duration_seconds_bucket{namespace=~"$namespace"}[$__rate_interval])))`, "{{instance}} p50"},
			query{`histogram_quantile(0.99, sum by (le, instance) (rate(headgate_controller_tick_duration_seconds_bucket{namespace=~"$namespace"}[$__rate_interval])))`, "{{instance}} p99"}).
			Links(links(runbook("HeadgateControllerStuck"))),
		lines(panel{"Queries to Prometheus", "One for each tick, whatever the number of targets. Those that failed gave no snapshot; warnings came with an answer.", unitPerSec, half},
			query{`sum by (instance) (rate(headgate_controller_queries_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{instance}} sent"},
			query{`sum by (instance) (rate(headgate_controller_query_errors_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{instance}} failed"},
			query{`sum by (instance) (rate(headgate_controller_query_warnings_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{instance}} warnings"}).
			Links(links(runbook("HeadgateSignalLost"))),
		lines(panel{"Signal age", "Age of the oldest depth that the last decision about each target rests on.", unitSeconds, third},
			query{`max by (namespace, target) (headgate_controller_signal_age_seconds{namespace=~"$namespace", target=~"$target"})`, "{{target}}"}).
			DataLinks(links(toTarget())),
		bars(panel{"Decisions by reason", "All decisions about the targets chosen. Anything but law is a decision without usable signals.", unitPerSec, third},
			query{`sum by (reason) (rate(headgate_controller_decisions_total{namespace=~"$namespace", target=~"$target"}[$__rate_interval]))`, "{{reason}}"}).
			Links(links(runbook("HeadgateFailMode"))),
		lines(panel{"Applies that failed", "Scales that a coordinator could not be told, by target and reason.", unitPerSec, third},
			query{`sum by (target, reason) (rate(headgate_controller_apply_errors_total{namespace=~"$namespace", target=~"$target", provider=~"$provider"}[$__rate_interval]))`, "{{target}} {{reason}}"}).
			Links(links(runbook("HeadgateApplyFailing"))),
		steps(panel{"Leases", "Leases that ran out into the fail mode, and requests that were refused because of another's lease, within the last 5 minutes.", unitCount, third},
			query{`sum by (provider) (increase(rate_coordinator_lease_expiries_total{namespace=~"$namespace", provider=~"$provider"}[5m]))`, "{{provider}} ran out"},
			query{`sum by (provider) (increase(rate_coordinator_lease_conflicts_total{namespace=~"$namespace", provider=~"$provider"}[5m]))`, "{{provider}} refused"}).
			Links(links(runbook("HeadgateLeaseExpired"))),
		steps(panel{"Dead time", "Time from a change in the queue until the changed rate reaches the provider, as set or measured.", unitSeconds, third},
			query{`max by (target, provider) (headgate_controller_dead_time_seconds{namespace=~"$namespace", target=~"$target", provider=~"$provider"})`, "{{target}} {{provider}}"}),
		signed(panel{"Headroom", "Items for which each queue has room at the worst. Below 0 no policy can prevent overflow.", unitItems, third},
			query{`min by (target, provider) (headgate_controller_headroom_items{namespace=~"$namespace", target=~"$target", provider=~"$provider"})`, "{{target}} {{provider}}"}).
			Links(links(runbook("HeadgateHeadroomTooSmall"))),
		steps(panel{"Controllers", "Controllers that run, by version; one holds each lease, the others stand by.", unitCount, third},
			query{`count by (version) (headgate_controller_build_info{namespace=~"$namespace"})`, "{{version}}"}).
			Links(links(runbook("HeadgateControllerDown"))),
		lines(panel{"CPU", "Cores that the controller and the scaler use.", unitCount, third},
			query{`sum by (job, instance) (rate(process_cpu_seconds_total{namespace=~"$namespace"}[$__rate_interval]) and on (namespace, job, instance) (headgate_controller_targets or headgate_scaler_triggers))`, "{{job}} {{instance}}"}),
		lines(panel{"Memory", "Resident memory of the controller and the scaler.", unitBytes, third},
			query{`sum by (job, instance) (process_resident_memory_bytes{namespace=~"$namespace"} and on (namespace, job, instance) (headgate_controller_targets or headgate_scaler_triggers))`, "{{job}} {{instance}}"}),
	)

	b.row("External scaler")
	b.add(
		word(panel{"Signals usable", "Whether the scaler has signals to answer with. Without them KEDA gets Unavailable, and never 0.", unitState, quarter}, usable,
			query{`min(headgate_scaler_signals_usable{namespace=~"$namespace"})`, "usable"}).
			Links(links(runbook("HeadgateScalerUnavailable"))),
		number(panel{"Signal age", "Time since the scaler last read its signals.", unitSeconds, quarter},
			query{`max(headgate_scaler_signal_age_seconds{namespace=~"$namespace"})`, "age"}).
			Thresholds(marks("green", from(15, "orange"), from(30, "red"))),
		number(panel{"Triggers", "Triggers of ScaledObjects that have asked within the last hour.", unitCount, quarter},
			query{`sum(headgate_scaler_triggers{namespace=~"$namespace"})`, "triggers"}),
		number(panel{"Panics", "Calls that failed because of a fault of the program, ever since it started. Please report them.", unitCount, quarter},
			query{`sum(headgate_scaler_panics_total{namespace=~"$namespace"})`, "panics"}).
			Thresholds(marks("green", from(1, "red"))),
		lines(panel{"Calls from KEDA", "gRPC calls answered, by method and outcome. Each observation is GetMetricSpec, GetMetrics and IsActive.", unitPerSec, half},
			query{`sum by (grpc_method, grpc_code) (rate(grpc_server_handled_total{namespace=~"$namespace", grpc_service="externalscaler.ExternalScaler"}[$__rate_interval])) > 0`, "{{grpc_method}} {{grpc_code}}"}),
		lines(panel{"Answer time", "Time to answer a call, all but one in a hundred. Answers come from memory; KEDA's polling loop waits for them without a limit of its own.", unitSeconds, half},
			query{`histogram_quantile(0.99, sum by (le, grpc_method) (rate(grpc_server_handling_seconds_bucket{namespace=~"$namespace", grpc_service="externalscaler.ExternalScaler", grpc_type="unary"}[$__rate_interval])))`, "{{grpc_method}} p99"}),
		lines(panel{"Unanswered", "Questions that got no answer, for want of signals or because of wrong metadata.", unitPerSec, third},
			query{`sum by (reason) (rate(headgate_scaler_unanswered_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{reason}}"}).
			Links(links(runbook("HeadgateScalerUnavailable"))),
		lines(panel{"Readings", "Readings of the signals, each one query to Prometheus, and those that failed; and events that coordinators told of themselves ahead of Prometheus.", unitPerSec, third},
			query{`sum by (instance) (rate(headgate_scaler_reads_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{instance}} readings"},
			query{`sum by (instance) (rate(headgate_scaler_read_failures_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{instance}} failed"},
			query{`sum by (instance) (rate(headgate_scaler_pushed_events_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{instance}} told by coordinators"}),
		lines(panel{"Reading time", "Time that a reading took, all but one in a hundred.", unitSeconds, third},
			query{`histogram_quantile(0.99, sum by (le, instance) (rate(headgate_scaler_read_duration_seconds_bucket{namespace=~"$namespace"}[$__rate_interval])))`, "{{instance}} p99"}),
		steps(panel{"Streams", "Streams that KEDA holds open for push triggers, and what was sent on them.", unitCount, third},
			query{`sum by (stream) (headgate_scaler_streams{namespace=~"$namespace"})`, "{{stream}} open"},
			query{`sum by (stream) (increase(headgate_scaler_stream_sends_total{namespace=~"$namespace"}[5m]))`, "{{stream}} sent in 5 minutes"}),
		lines(panel{"Answer against target value", "What each trigger was answered, as a share of its target value. As AverageValue it is divided by the replicas first.", unitShare, third},
			query{`max by (scaled_object, metric) (headgate_scaler_value{namespace=~"$namespace"} / headgate_scaler_target_value{namespace=~"$namespace"})`, "{{scaled_object}} {{metric}}"}),
		steps(panel{"Replicas", "Replicas that write, as Prometheus has them; what the autoscaler makes of the last answer, before its own bounds; and what Kubernetes runs.", unitCount, third},
			query{`max by (scaled_object) (headgate_scaler_replicas{namespace=~"$namespace"})`, "{{scaled_object}} writing"},
			query{`max by (scaled_object, metric) (headgate_scaler_replicas_wanted{namespace=~"$namespace"})`, "{{scaled_object}} wanted by {{metric}}"},
			query{`max by (horizontalpodautoscaler) (kube_horizontalpodautoscaler_status_current_replicas{namespace=~"$namespace", horizontalpodautoscaler=~"keda-hpa-.*"})`, "{{horizontalpodautoscaler}} running"}),
		states(panel{"Active", "Whether each trigger was last answered to be active. One that is not lets KEDA go to no replicas at all after its cooldownPeriod.", unitState, third}, yes,
			query{`max by (scaled_object, metric) (headgate_scaler_active{namespace=~"$namespace"})`, "{{scaled_object}} {{metric}}"}),
		states(panel{"Store-bound", "Whether more replicas are not asked for because the last ones did not raise the drain.", unitState, third}, yes,
			query{`max by (scaled_object, metric) (headgate_scaler_store_bound{namespace=~"$namespace"})`, "{{scaled_object}} {{metric}}"}).
			Links(links(runbook("HeadgateStoreBound"))),
		bars(panel{"Guards", "Times that a guard began to decide on a number of replicas, within 5 minutes.", unitCount, third},
			query{`sum by (guard) (increase(headgate_scaler_guards_total{namespace=~"$namespace"}[5m]))`, "{{guard}}"}),
	)

	b.row("KEDA")
	b.add(
		lines(panel{"Errors of KEDA's scalers", "Errors that KEDA's operator had with its scalers, as it counts them. Needs its own metrics to be scraped.", unitPerSec, half},
			query{`sum by (scaledObject, scaler) (rate(keda_scaler_detail_errors_total[$__rate_interval]))`, "{{scaledObject}} {{scaler}}"}),
		lines(panel{"Latency of KEDA's scalers", "How long KEDA's operator waited for each scaler's answer. Needs its own metrics to be scraped.", unitSeconds, half},
			query{`max by (scaledObject, scaler) (keda_scaler_metrics_latency_seconds)`, "{{scaledObject}} {{scaler}}"}),
	)
	return b
}
