package dashboards

// pipeline shows what becomes of the items, from the sources to the store.
func pipeline() *board {
	b := newBoard("headgate-pipeline", "Pipeline",
		"What becomes of the items: sources, gate, write queue, store, dead letters.",
		datasourceVariable(), namespaceVariable(), targetsVariable(), providerVariable(), coordinatorVariable())

	b.row("Sources and gate")
	b.add(
		lines(panel{"Offered and accepted", "Items that each source offered, and that the pipeline took. The difference waits at the gate or at a full queue.", unitRate, third},
			query{`sum by (node) (rate(pipeline_source_items_offered_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{node}} offered"},
			query{`sum by (node) (rate(pipeline_source_items_accepted_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{node}} accepted"},
			query{`sum by (node) (rate(pipeline_source_items_skipped_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{node}} left out"}),
		lines(panel{"Lag of the sources", "How late a source that goes by a schedule offers its items. It grows while its provider is throttled.", unitSeconds, third},
			query{`max by (node) (pipeline_source_lag_seconds{namespace=~"$namespace"})`, "{{node}}"}),
		lines(panel{"Wait for tokens", "How long those calls waited at the gate that had to.", unitSeconds, third},
			query{`histogram_quantile(0.5, sum by (le, provider) (rate(rate_coordinator_acquire_wait_seconds_bucket{namespace=~"$namespace", provider=~"$provider"}[$__rate_interval])))`, "{{provider}} p50"},
			query{`histogram_quantile(0.99, sum by (le, provider) (rate(rate_coordinator_acquire_wait_seconds_bucket{namespace=~"$namespace", provider=~"$provider"}[$__rate_interval])))`, "{{provider}} p99"}),
		lines(panel{"Calls at the gate", "Calls that got tokens, that had to wait in line, and that were refused, by reason.", unitPerSec, third},
			query{`sum by (provider) (rate(rate_coordinator_acquire_granted_total{namespace=~"$namespace", provider=~"$provider"}[$__rate_interval]))`, "{{provider}} granted"},
			query{`sum by (provider) (rate(rate_coordinator_acquire_waited_total{namespace=~"$namespace", provider=~"$provider"}[$__rate_interval]))`, "{{provider}} waited"},
			query{`sum by (provider, reason) (rate(rate_coordinator_acquire_refused_total{namespace=~"$namespace", provider=~"$provider"}[$__rate_interval]))`, "{{provider}} refused, {{reason}}"}),
		lines(panel{"Transforms", "Items that each transform let go on, and that it removed.", unitRate, third},
			query{`sum by (node) (rate(pipeline_transform_items_kept_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{node}} kept"},
			query{`sum by (node) (rate(pipeline_transform_items_removed_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{node}} removed"}),
		lines(panel{"Sinks without a queue", "Items that went to a sink without a write queue, by what became of them.", unitRate, third},
			query{`sum by (node, result) (rate(pipeline_direct_sink_items_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{node}} {{result}}"}),
	)

	b.row("Write queue")
	b.add(
		dashed(steps(panel{"Depth", "Items that wait, those of them that a worker is writing, and the capacity.", unitItems, third},
			query{`sum by (coordinator_id) (coordinator_queue_depth{namespace=~"$namespace", coordinator_id=~"$coordinator"})`, "{{coordinator_id}} waiting"},
			query{`sum by (coordinator_id) (coordinator_queue_in_flight_items{namespace=~"$namespace", coordinator_id=~"$coordinator"})`, "{{coordinator_id}} being written"},
			query{`sum by (coordinator_id) (coordinator_queue_capacity{namespace=~"$namespace", coordinator_id=~"$coordinator"})`, "{{coordinator_id}} capacity"}),
			"/ capacity$/", "red").Links(links(runbook("HeadgateQueueFull"))),
		lines(panel{"Wait in the queue", "Time from an item's acceptance until the store had it.", unitSeconds, third},
			query{`histogram_quantile(0.5, sum by (le, coordinator_id) (rate(coordinator_queue_wait_seconds_bucket{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval])))`, "{{coordinator_id}} p50"},
			query{`histogram_quantile(0.99, sum by (le, coordinator_id) (rate(coordinator_queue_wait_seconds_bucket{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval])))`, "{{coordinator_id}} p99"}),
		lines(panel{"Where items go", "Items accepted, written, sent to the dead letters and dropped. Accepted = written + waiting + dropped + dead letters, always.", unitRate, third},
			query{`sum by (coordinator_id) (rate(coordinator_items_accepted_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} accepted"},
			query{`sum by (coordinator_id) (rate(coordinator_items_written_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} written"},
			query{`sum by (coordinator_id) (rate(coordinator_items_dead_lettered_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} dead letters"},
			query{`sum by (coordinator_id, reason) (rate(coordinator_items_dropped_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} dropped, {{reason}}"}).
			Links(links(runbook("HeadgateItemsDropped"))),
		steps(panel{"Producers that wait", "Producers that wait for room in a full queue.", unitCount, third},
			query{`sum by (coordinator_id) (coordinator_queue_blocked_puts{namespace=~"$namespace", coordinator_id=~"$coordinator"})`, "{{coordinator_id}}"}),
		lines(panel{"Refused", "Items that were offered and not accepted, by reason.", unitRate, third},
			query{`sum by (coordinator_id, reason) (rate(coordinator_items_refused_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} {{reason}}"}),
		bars(panel{"Feedback events", "Levels that the queue published, within 5 minutes.", unitCount, third},
			query{`sum by (coordinator_id, level) (increase(coordinator_backpressure_events_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[5m]))`, "{{coordinator_id}} {{level}}"},
			query{`sum by (subscriber, outcome) (increase(rate_coordinator_feedback_events_total{namespace=~"$namespace", outcome!="handled"}[5m]))`, "{{subscriber}} {{outcome}}"}),
	)

	b.row("Store")
	b.add(
		lines(panel{"Write time", "How long one write of a batch took that ended well.", unitSeconds, third},
			query{`histogram_quantile(0.5, sum by (le, coordinator_id) (rate(coordinator_write_duration_seconds_bucket{namespace=~"$namespace", coordinator_id=~"$coordinator", result="ok"}[$__rate_interval])))`, "{{coordinator_id}} p50"},
			query{`histogram_quantile(0.99, sum by (le, coordinator_id) (rate(coordinator_write_duration_seconds_bucket{namespace=~"$namespace", coordinator_id=~"$coordinator", result="ok"}[$__rate_interval])))`, "{{coordinator_id}} p99"}),
		bars(panel{"Writes by result", "retryable: it failed and is tried again. permanent: the store will never take it.", unitPerSec, third},
			query{`sum by (result) (rate(coordinator_write_duration_seconds_count{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{result}}"}),
		lines(panel{"Batch size", "Items in one batch as a worker took it: half of the batches, and all but one in twenty.", unitItems, third},
			query{`histogram_quantile(0.5, sum by (le, coordinator_id) (rate(coordinator_write_batch_items_bucket{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval])))`, "{{coordinator_id}} p50"},
			query{`histogram_quantile(0.95, sum by (le, coordinator_id) (rate(coordinator_write_batch_items_bucket{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval])))`, "{{coordinator_id}} p95"}),
		states(panel{"Circuit breaker of the store", "Open: the store is left alone for a time after failures in a row. Half open: one write is let through to see.", unitState, third}, breakers,
			query{`max by (coordinator_id) (coordinator_store_breaker_state{namespace=~"$namespace", coordinator_id=~"$coordinator", state="half_open"} + ignoring (state) 2 * coordinator_store_breaker_state{namespace=~"$namespace", coordinator_id=~"$coordinator", state="open"})`, "{{coordinator_id}}"}),
		lines(panel{"Retries", "Writes that were tried again after a failure that may pass, and times that the breaker opened.", unitPerSec, third},
			query{`sum by (coordinator_id) (rate(coordinator_write_retries_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} retries"},
			query{`sum by (coordinator_id) (rate(coordinator_store_breaker_opened_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} breaker opened"}),
		steps(panel{"Dead letters", "Items that went to the dead letters since the start, and times that they could not be kept.", unitCount, third},
			query{`sum by (coordinator_id) (coordinator_items_dead_lettered_total{namespace=~"$namespace", coordinator_id=~"$coordinator"})`, "{{coordinator_id}} items"},
			query{`sum by (coordinator_id) (coordinator_dead_letter_failures_total{namespace=~"$namespace", coordinator_id=~"$coordinator"})`, "{{coordinator_id}} not kept"}).
			Links(links(runbook("HeadgateDeadLettersGrowing"), runbook("HeadgateDeadLettersNotKept"))),
	)
	return b
}
