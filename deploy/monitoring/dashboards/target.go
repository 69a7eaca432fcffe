package dashboards

// target shows everything about one target: its queue, its providers, and how
// it is decided about.
func target() *board {
	b := newBoard("headgate-target", "Target",
		"One target in detail: its queue, its providers, and how it is decided about.",
		datasourceVariable(), namespaceVariable(), targetVariable(), providerVariable(), coordinatorVariable())

	b.add(
		word(panel{"Level", "The level of this target now.", unitState, sixth}, levels,
			query{`max(headgate_controller_level{namespace=~"$namespace", target=~"$target"})`, "level"}).
			Links(links(runbook("HeadgateHardPressure"))),
		number(panel{"Scale in force", "Share of the base rate at which its providers may send; the lowest of them.", unitShare, sixth},
			query{`min(headgate_controller_scale_in_force{namespace=~"$namespace", target=~"$target", provider=~"$provider"})`, "scale"}).
			Thresholds(marks("red", from(0.01, "orange"), from(1, "green"))),
		number(panel{"Time to drain", "How long the queue would take to run empty at the present drain if nothing came any more.", unitSeconds, sixth},
			query{`sum(coordinator_queue_depth{namespace=~"$namespace", coordinator_id=~"$coordinator"}) / sum(rate(coordinator_items_written_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "to drain"}),
		number(panel{"Signal age", "Age of the depth that the last decision rests on.", unitSeconds, sixth},
			query{`max(headgate_controller_signal_age_seconds{namespace=~"$namespace", target=~"$target"})`, "age"}).
			Thresholds(marks("green", from(15, "orange"), from(30, "red"))).Links(links(runbook("HeadgateSignalLost"))),
		number(panel{"Dead time", "Time from a change in the queue until the changed rate reaches the provider, as set or measured. The shorter it is, the closer the loop can hold the depth.", unitSeconds, sixth},
			query{`max(headgate_controller_dead_time_seconds{namespace=~"$namespace", target=~"$target", provider=~"$provider"})`, "dead time"}),
		number(panel{"Headroom", "Items for which the queue has room at the worst: its capacity, less the depth at which the law acts, less what may come within the dead time. Below 0 no policy can prevent overflow.", unitItems, sixth},
			query{`min(headgate_controller_headroom_items{namespace=~"$namespace", target=~"$target", provider=~"$provider"})`, "headroom"}).
			Decimals(0).Thresholds(marks("red", from(0, "green"))).Links(links(runbook("HeadgateHeadroomTooSmall"))),
	)

	b.row("Queue")
	b.add(
		states(panel{"Level, here and at the coordinator", "The level that the controller decided on, and what the coordinator says of itself. The worse of the two rules; the controller's falls later, by its exit mark and cool-down.", unitState, whole}, levels,
			query{`max by (target) (headgate_controller_level{namespace=~"$namespace", target=~"$target"})`, "decided"},
			query{`max by (coordinator_id) (coordinator_backpressure_soft{namespace=~"$namespace", coordinator_id=~"$coordinator"} + 2 * coordinator_backpressure_hard{namespace=~"$namespace", coordinator_id=~"$coordinator"})`, "{{coordinator_id}} says"}).
			Height(5),
		marked(steps(panel{"Depth against the marks", "Items waiting, the depths at which a level begins and ends, and the capacity.", unitItems, half},
			query{`sum by (coordinator_id) (coordinator_queue_depth{namespace=~"$namespace", coordinator_id=~"$coordinator"})`, "{{coordinator_id}}"},
			query{`max by (threshold) (headgate_controller_threshold_items{namespace=~"$namespace", target=~"$target"})`, "{{threshold}}"},
			query{`sum by (coordinator_id) (coordinator_queue_capacity{namespace=~"$namespace", coordinator_id=~"$coordinator"})`, "{{coordinator_id}} capacity"}),
			"/^soft_/", "/^hard_| capacity$/"),
		lines(panel{"Arrivals and drain", "Items that the queue takes in, that the store takes out, and that the providers may send at their scale in force.", unitRate, half},
			query{`sum by (coordinator_id) (rate(coordinator_items_accepted_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} in"},
			query{`sum by (coordinator_id) (rate(coordinator_items_written_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} out"},
			query{`max by (provider) (rate_coordinator_effective_rate_tokens_per_second{namespace=~"$namespace", provider=~"$provider"})`, "{{provider}} may send"}),
	)

	b.row("Providers")
	b.add(
		dashed(steps(panel{"Scale by owner", "What each owner asks for, and what is in force: the lowest of them. The fast loop is in the pipeline, the controller is outside of it, the operator is somebody's override.", unitShare, half},
			query{`max by (provider, owner) (rate_coordinator_owner_scale_factor{namespace=~"$namespace", provider=~"$provider"})`, "{{provider}} {{owner}}"},
			query{`max by (provider) (rate_coordinator_scale_factor{namespace=~"$namespace", provider=~"$provider"})`, "{{provider}} in force"}),
			"/ in force$/", "red").Max(1).Links(links(runbook("HeadgateScaleMismatch"))),
		steps(panel{"Scale, wanted, asked for and in force", "What the law wants for this target, what the coordinator was asked for (targets that share a provider are combined), and what it answered to be in force. Nothing is asked for at standby or in a dry run.", unitShare, half},
			query{`max by (provider) (headgate_controller_scale_wanted{namespace=~"$namespace", target=~"$target", provider=~"$provider"})`, "{{provider}} wanted"},
			query{`max by (provider) (headgate_controller_scale_asked{namespace=~"$namespace", target=~"$target", provider=~"$provider"})`, "{{provider}} asked for"},
			query{`max by (provider) (headgate_controller_scale_in_force{namespace=~"$namespace", target=~"$target", provider=~"$provider"})`, "{{provider}} in force"}).
			Max(1),
		lines(panel{"Tokens", "Tokens that the provider took, and its base rate, which is the most at scale 1.", unitRate, third},
			query{`sum by (provider) (rate(rate_coordinator_tokens_granted_total{namespace=~"$namespace", provider=~"$provider"}[$__rate_interval]))`, "{{provider}} taken"},
			query{`max by (provider) (rate_coordinator_base_rate_tokens_per_second{namespace=~"$namespace", provider=~"$provider"})`, "{{provider}} base rate"}),
		lines(panel{"Wait for tokens", "How long those calls waited at the gate that had to: half of them, and all but one in a hundred.", unitSeconds, third},
			query{`histogram_quantile(0.5, sum by (le, provider) (rate(rate_coordinator_acquire_wait_seconds_bucket{namespace=~"$namespace", provider=~"$provider"}[$__rate_interval])))`, "{{provider}} p50"},
			query{`histogram_quantile(0.99, sum by (le, provider) (rate(rate_coordinator_acquire_wait_seconds_bucket{namespace=~"$namespace", provider=~"$provider"}[$__rate_interval])))`, "{{provider}} p99"}),
		lines(panel{"In line and refused", "Calls that wait at the gate now, and calls each second that got no tokens, by reason.", unitCount, third},
			query{`sum by (provider) (rate_coordinator_waiters{namespace=~"$namespace", provider=~"$provider"})`, "{{provider}} in line"},
			query{`sum by (provider, reason) (rate(rate_coordinator_acquire_refused_total{namespace=~"$namespace", provider=~"$provider"}[$__rate_interval]))`, "{{provider}} refused, {{reason}}, each second"}),
		states(panel{"Circuit breaker of the provider", "Open: calls are refused for a time after failures in a row. Half open: one is let through to see.", unitState, half}, breakers,
			query{`max by (provider) (rate_coordinator_breaker_state{namespace=~"$namespace", provider=~"$provider"})`, "{{provider}}"}).Height(5),
		steps(panel{"Cool-down", "Time until a cool-down of the whole provider is over; 0 while there is none.", unitSeconds, half},
			query{`max by (provider) (rate_coordinator_cool_down_remaining_seconds{namespace=~"$namespace", provider=~"$provider"})`, "{{provider}}"}).Height(5),
	)

	b.row("Decisions")
	b.add(
		bars(panel{"Decisions by reason", "law: the signals were good. hold: they were not, the last scale is renewed. fail_mode: they were not for longer than the stale limit. waiting: there were none yet.", unitPerSec, half},
			query{`sum by (reason) (rate(headgate_controller_decisions_total{namespace=~"$namespace", target=~"$target"}[$__rate_interval]))`, "{{reason}}"}).
			Links(links(runbook("HeadgateSignalLost"), runbook("HeadgateFailMode"))),
		lines(panel{"Signal age and dead time", "Age of the depth that decisions rest on, and the time until a decision shows in the queue.", unitSeconds, half},
			query{`max by (target) (headgate_controller_signal_age_seconds{namespace=~"$namespace", target=~"$target"})`, "signal age"},
			query{`max by (provider) (headgate_controller_dead_time_seconds{namespace=~"$namespace", target=~"$target", provider=~"$provider"})`, "dead time {{provider}}"}),
		steps(panel{"Leases", "Leases that ran out into the fail mode, and requests that were refused because of another's lease, within the last 5 minutes.", unitCount, third},
			query{`sum by (provider) (increase(rate_coordinator_lease_expiries_total{namespace=~"$namespace", provider=~"$provider"}[5m]))`, "{{provider}} ran out"},
			query{`sum by (provider) (increase(rate_coordinator_lease_conflicts_total{namespace=~"$namespace", provider=~"$provider"}[5m]))`, "{{provider}} refused"}).
			Links(links(runbook("HeadgateLeaseExpired"))),
		states(panel{"Standby", "Whether this controller stands by because another one holds the provider's lease.", unitState, third}, yes,
			query{`max by (provider, instance) (headgate_controller_standby{namespace=~"$namespace", target=~"$target", provider=~"$provider"})`, "{{instance}} {{provider}}"}),
		lines(panel{"Applies that failed", "Scales that the coordinator could not be told, by reason.", unitPerSec, third},
			query{`sum by (provider, reason) (rate(headgate_controller_apply_errors_total{namespace=~"$namespace", target=~"$target", provider=~"$provider"}[$__rate_interval]))`, "{{provider}} {{reason}}"}).
			Links(links(runbook("HeadgateApplyFailing"))),
	)
	return b
}
