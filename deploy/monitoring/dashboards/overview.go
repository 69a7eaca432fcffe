package dashboards

// overview shows all targets: who is under pressure, what is done about it, and
// whether anything is lost.
func overview() *board {
	b := newBoard("headgate-overview", "Overview",
		"All targets: who is under pressure, what is done about it, and whether anything is lost.",
		datasourceVariable(), namespaceVariable(), targetsVariable(), providerVariable(), coordinatorVariable())

	b.add(
		word(panel{"Worst level", "The worst level among the targets chosen. OK: the store keeps up. SOFT: it falls behind, providers are slowed down. HARD: the queue is almost full, providers run at their lowest scale.", unitState, sixth}, levels,
			query{`max(headgate_controller_level{namespace=~"$namespace", target=~"$target"})`, "level"}).
			Links(links(runbook("HeadgateHardPressure"))),
		number(panel{"Targets controlled", "Targets whose providers are throttled; those that are switched off or in a dry run do not count.", unitCount, sixth},
			query{`sum(max by (namespace) (headgate_controller_targets{namespace=~"$namespace", state="controlled"}))`, "controlled"}),
		number(panel{"Lowest scale", "The lowest scale in force among the providers chosen: 100 % is unthrottled.", unitShare, sixth},
			query{`min(rate_coordinator_scale_factor{namespace=~"$namespace", provider=~"$provider"})`, "scale"}).
			Thresholds(marks("red", from(0.01, "orange"), from(1, "green"))),
		number(panel{"Oldest signal", "Age of the oldest signal that a decision rests on. It should stay near the time between two scrapes; from the stale limit on (30 s by default) the target goes to its fail mode.", unitSeconds, sixth},
			query{`max(headgate_controller_signal_age_seconds{namespace=~"$namespace", target=~"$target"})`, "age"}).
			Thresholds(marks("green", from(15, "orange"), from(30, "red"))).Links(links(runbook("HeadgateSignalLost"))),
		number(panel{"Lost", "Accepted items that were dropped within the time shown. They are in neither the store nor the dead letters.", unitCount, sixth},
			query{`sum(increase(coordinator_items_dropped_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__range]))`, "lost"}).
			Decimals(0).Thresholds(marks("green", from(0.5, "red"))).Links(links(runbook("HeadgateItemsDropped"))),
		number(panel{"Dead letters", "Items that the store did not take within the time shown. They are kept and can be replayed.", unitCount, sixth},
			query{`sum(increase(coordinator_items_dead_lettered_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__range]))`, "dead letters"}).
			Decimals(0).Thresholds(marks("green", from(0.5, "orange"))).Links(links(runbook("HeadgateDeadLettersGrowing"))),
	)

	b.row("Pressure")
	b.add(
		states(panel{"Level", "The level of each target over time. Click a band to see that target in detail.", unitState, whole}, levels,
			query{`max by (namespace, target) (headgate_controller_level{namespace=~"$namespace", target=~"$target"})`, "{{target}}"}).
			DataLinks(links(toTarget())),
		marked(steps(panel{"Depth against the marks", "Items waiting in the fullest queue that each target observes, and the depths at which SOFT and HARD begin.", unitItems, half},
			query{`max by (namespace, target) (headgate_controller_observed{namespace=~"$namespace", target=~"$target"} * on (namespace, coordinator_id) group_left () sum by (namespace, coordinator_id) (coordinator_queue_depth{namespace=~"$namespace"}))`, "{{target}}"},
			query{`max by (namespace, target) (headgate_controller_threshold_items{namespace=~"$namespace", target=~"$target", threshold="soft_enter"})`, "{{target}} SOFT"},
			query{`max by (namespace, target) (headgate_controller_threshold_items{namespace=~"$namespace", target=~"$target", threshold="hard_enter"})`, "{{target}} HARD"}),
			"/ SOFT$/", "/ HARD$/").DataLinks(links(toTarget())),
		dashed(steps(panel{"Scale, wanted and in force", "Share of each provider's base rate: what the law wants for the target (dashed), and what the coordinator answered to be in force. They differ while an operator, the fast loop or another target asks for less.", unitShare, half},
			query{`max by (namespace, target, provider) (headgate_controller_scale_in_force{namespace=~"$namespace", target=~"$target", provider=~"$provider"})`, "{{target}} {{provider}}"},
			query{`max by (namespace, target, provider) (headgate_controller_scale_wanted{namespace=~"$namespace", target=~"$target", provider=~"$provider"})`, "{{target}} {{provider}} wanted"}),
			"/ wanted$/", "text").Max(1).DataLinks(links(toTarget())).Links(links(runbook("HeadgateScaleMismatch"))),
	)

	b.row("Throughput")
	b.add(
		lines(panel{"Arrivals and drain", "Items that each queue takes in, and that its store takes out. Where arrivals stay above the drain, the queue fills.", unitRate, half},
			query{`sum by (namespace, coordinator_id) (rate(coordinator_items_accepted_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} in"},
			query{`sum by (namespace, coordinator_id) (rate(coordinator_items_written_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} out"}),
		lines(panel{"Losses", "Items that were dropped, refused at a full queue, or sent to the dead letters.", unitRate, half},
			query{`sum by (namespace, coordinator_id) (rate(coordinator_items_dropped_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} dropped"},
			query{`sum by (namespace, coordinator_id) (rate(coordinator_items_refused_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} refused"},
			query{`sum by (namespace, coordinator_id) (rate(coordinator_items_dead_lettered_total{namespace=~"$namespace", coordinator_id=~"$coordinator"}[$__rate_interval]))`, "{{coordinator_id}} dead letters"}).
			Links(links(runbook("HeadgateItemsDropped"), runbook("HeadgateQueueFull"), runbook("HeadgateDeadLettersGrowing"))),
		steps(panel{"Replicas", "Replicas that write for each coordinator, what the autoscaler makes of the scaler's last answer before its own bounds, and what Kubernetes runs.", unitCount, half},
			query{`count by (namespace, coordinator_id) (coordinator_queue_depth{namespace=~"$namespace", coordinator_id=~"$coordinator"})`, "{{coordinator_id}} writing"},
			query{`max by (namespace, scaled_object) (headgate_scaler_replicas_wanted{namespace=~"$namespace"})`, "{{scaled_object}} wanted"},
			query{`max by (namespace, horizontalpodautoscaler) (kube_horizontalpodautoscaler_status_current_replicas{namespace=~"$namespace", horizontalpodautoscaler=~"keda-hpa-.*"})`, "{{horizontalpodautoscaler}} running"}).
			Links(links(runbook("HeadgateStoreBound"))),
		rows(panel{"Alerts that fire", "Headgate's alerts that fire now. The name leads to the runbook.", unitCount, half},
			[]string{"alertstate", "job"}, map[string]string{"alertname": "alert"},
			query{`ALERTS{alertname=~"Headgate.*", alertstate="firing"}`, ""}).
			OverrideByName("alert", runbookOfCell()).NoValue("none"),
	)
	return b
}
