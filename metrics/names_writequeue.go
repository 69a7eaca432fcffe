package metrics

// Series of the write queue. All of them carry coordinator_id.
const (
	QueueDepth         = "coordinator_queue_depth"
	QueueCapacity      = "coordinator_queue_capacity"
	QueueMaxDepth      = "coordinator_queue_max_depth"
	QueueInFlight      = "coordinator_queue_in_flight_items"
	QueueBlockedPuts   = "coordinator_queue_blocked_puts"
	QueueShared        = "coordinator_queue_shared"
	QueueWait          = "coordinator_queue_wait_seconds"
	BackpressureOK     = "coordinator_backpressure_ok"
	BackpressureSoft   = "coordinator_backpressure_soft"
	BackpressureHard   = "coordinator_backpressure_hard"
	BackpressureEvents = "coordinator_backpressure_events_total"
	ItemsAccepted      = "coordinator_items_accepted_total"
	ItemsWritten       = "coordinator_items_written_total"
	ItemsDropped       = "coordinator_items_dropped_total"
	ItemsDeadLettered  = "coordinator_items_dead_lettered_total"
	ItemsRefused       = "coordinator_items_refused_total"
	ItemsRepeated      = "coordinator_items_repeated_total"
	ItemsGivenBack     = "coordinator_items_given_back_total"
	WriteDuration      = "coordinator_write_duration_seconds"
	WriteBatchItems    = "coordinator_write_batch_items"
	WriteRetries       = "coordinator_write_retries_total"
	DeadLetterFailures = "coordinator_dead_letter_failures_total"
	StoreBreakerState  = "coordinator_store_breaker_state"
	StoreBreakerOpened = "coordinator_store_breaker_opened_total"
)

// Labels of the write queue's series beside coordinator_id and reason.
const (
	LabelLevel  = "level"  // ok, soft or hard
	LabelResult = "result" // how a write ended: ok, retryable or permanent
	LabelState  = "state"  // of the breaker: closed, half_open or open
)

func writeQueueSeries() []Series {
	id := []string{LabelCoordinatorID}
	with := func(label string) []string { return []string{LabelCoordinatorID, label} }
	return []Series{
		{Name: QueueDepth, Kind: Gauge, Labels: id,
			Help: "Items waiting in the write queue, with those that a worker is writing."},
		{Name: QueueCapacity, Kind: Gauge, Labels: id,
			Help: "The most items that may wait in the write queue."},
		{Name: QueueMaxDepth, Kind: Gauge, Labels: id,
			Help: "The most items that waited at once since the start."},
		{Name: QueueInFlight, Kind: Gauge, Labels: id,
			Help: "Items in the hands of a worker, a part of the depth."},
		{Name: QueueBlockedPuts, Kind: Gauge, Labels: id,
			Help: "Producers that wait for room in the write queue."},
		{Name: QueueShared, Kind: Gauge, Labels: id,
			Help: "1 where all replicas share one queue, so that each tells the depth, the capacity and the level of the whole: they are not added up."},
		{Name: QueueWait, Kind: Histogram, Labels: id,
			Help:    "Time from an item's acceptance until the store had it.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}},
		{Name: BackpressureOK, Kind: Gauge, Labels: id,
			Help: "1 while the write queue's level is OK, else 0."},
		{Name: BackpressureSoft, Kind: Gauge, Labels: id,
			Help: "1 while the write queue's level is SOFT, else 0."},
		{Name: BackpressureHard, Kind: Gauge, Labels: id,
			Help: "1 while the write queue's level is HARD, else 0."},
		{Name: BackpressureEvents, Kind: Counter, Labels: with(LabelLevel),
			Help: "Feedback events published, by the level that they told."},
		{Name: ItemsAccepted, Kind: Counter, Labels: id,
			Help: "Items accepted into the write queue."},
		{Name: ItemsWritten, Kind: Counter, Labels: id,
			Help: "Items that the store has taken."},
		{Name: ItemsDropped, Kind: Counter, Labels: with(LabelReason),
			Help: "Accepted items that were lost, by reason."},
		{Name: ItemsDeadLettered, Kind: Counter, Labels: id,
			Help: "Accepted items that went to the dead letters."},
		{Name: ItemsRefused, Kind: Counter, Labels: with(LabelReason),
			Help: "Items that were offered and not accepted, by reason."},
		{Name: ItemsRepeated, Kind: Counter, Labels: id,
			Help: "Items that were offered again under a key that the durable queue had just taken; they make no second item."},
		{Name: ItemsGivenBack, Kind: Counter, Labels: id,
			Help: "Items that were taken from the durable queue and left for others to write."},
		{Name: WriteDuration, Kind: Histogram, Labels: with(LabelResult),
			Help:    "How long one write of a batch to the store took, by how it ended.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}},
		{Name: WriteBatchItems, Kind: Histogram, Labels: id,
			Help:    "Items in one batch, as a worker took it from the write queue.",
			Buckets: []float64{1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000}},
		{Name: WriteRetries, Kind: Counter, Labels: id,
			Help: "Writes that were tried again after a failure that may pass."},
		{Name: DeadLetterFailures, Kind: Counter, Labels: id,
			Help: "Times that dead letters could not be kept; their items went on waiting."},
		{Name: StoreBreakerState, Kind: Gauge, Labels: with(LabelState),
			Help: "1 for the state that the store's circuit breaker is in, else 0."},
		{Name: StoreBreakerOpened, Kind: Counter, Labels: id,
			Help: "Times that the store's circuit breaker opened."},
	}
}
