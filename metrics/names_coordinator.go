package metrics

// Series of the rate coordinator.
const (
	ScaleFactor   = "rate_coordinator_scale_factor"
	PressureState = "rate_coordinator_pressure_state"

	OwnerScale      = "rate_coordinator_owner_scale_factor"
	BaseRate        = "rate_coordinator_base_rate_tokens_per_second"
	ProviderShare   = "rate_coordinator_share"
	EffectiveRate   = "rate_coordinator_effective_rate_tokens_per_second"
	AcquireGranted  = "rate_coordinator_acquire_granted_total"
	TokensGranted   = "rate_coordinator_tokens_granted_total"
	AcquireWaited   = "rate_coordinator_acquire_waited_total"
	AcquireRefused  = "rate_coordinator_acquire_refused_total"
	AcquireWait     = "rate_coordinator_acquire_wait_seconds"
	AcquireWaiters  = "rate_coordinator_waiters"
	ProviderBreaker = "rate_coordinator_breaker_state"
	ProviderOpened  = "rate_coordinator_breaker_opened_total"
	ProviderCooling = "rate_coordinator_cool_down_remaining_seconds"
	LeaseExpiries   = "rate_coordinator_lease_expiries_total"
	LeaseConflicts  = "rate_coordinator_lease_conflicts_total"
	FeedbackEvents  = "rate_coordinator_feedback_events_total"

	SharedConnected = "rate_coordinator_shared_budget_connected"
	SharedLosses    = "rate_coordinator_shared_budget_losses_total"
	SharedDraws     = "rate_coordinator_shared_budget_draws_total"
	SharedDrawn     = "rate_coordinator_shared_budget_tokens_drawn_total"
	SharedReturned  = "rate_coordinator_shared_budget_tokens_returned_total"
)

// Labels of the rate coordinator alone.
const (
	LabelOwner      = "owner"
	LabelOutcome    = "outcome"
	LabelSubscriber = "subscriber"
)

func coordinatorSeries() []Series {
	provider := []string{LabelProvider}
	return []Series{
		{Name: ScaleFactor, Kind: Gauge, Labels: provider,
			Help: "Scale in force, the lowest of all owners', in [0, 1]."},
		{Name: PressureState, Kind: Gauge, Labels: provider,
			Help: "Worst level that an owner tells: 0 for OK, 1 for SOFT, 2 for HARD."},
		{Name: OwnerScale, Kind: Gauge, Labels: []string{LabelProvider, LabelOwner},
			Help: "Scale of one owner, in [0, 1]; absent while that owner has none."},
		{Name: BaseRate, Kind: Gauge, Labels: provider,
			Help: "Rate at scale 1 and share 1."},
		{Name: ProviderShare, Kind: Gauge, Labels: provider,
			Help: "Part of the base rate that is this replica's, in (0, 1]; 1 where it has the whole budget."},
		{Name: EffectiveRate, Kind: Gauge, Labels: provider,
			Help: "Rate that the share and the scale in force make of the base rate."},
		{Name: AcquireGranted, Kind: Counter, Labels: provider,
			Help: "Calls that got their tokens."},
		{Name: TokensGranted, Kind: Counter, Labels: provider,
			Help: "Tokens given to them."},
		{Name: AcquireWaited, Kind: Counter, Labels: provider,
			Help: "Calls that had to wait in line, whatever became of them."},
		{Name: AcquireRefused, Kind: Counter, Labels: []string{LabelProvider, LabelReason},
			Help: "Calls that got no tokens."},
		{Name: AcquireWait, Kind: Histogram, Labels: provider,
			Help:    "Time in line of the calls that had to wait and got their tokens.",
			Buckets: []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300}},
		{Name: AcquireWaiters, Kind: Gauge, Labels: provider,
			Help: "Calls in line now."},
		{Name: ProviderBreaker, Kind: Gauge, Labels: provider,
			Help: "Circuit breaker of the provider: 0 closed, 1 half open, 2 open."},
		{Name: ProviderOpened, Kind: Counter, Labels: provider,
			Help: "Times that the breaker opened."},
		{Name: ProviderCooling, Kind: Gauge, Labels: provider,
			Help: "Time until the provider's global cool-down is over; 0 while there is none."},
		{Name: LeaseExpiries, Kind: Counter, Labels: provider,
			Help: "Leases that ran out, after which the provider went to its fail mode."},
		{Name: LeaseConflicts, Kind: Counter, Labels: provider,
			Help: "Requests that were refused because of a lease or a newer sequence."},
		{Name: FeedbackEvents, Kind: Counter, Labels: []string{LabelSubscriber, LabelOutcome},
			Help: "Feedback events that were handed to a subscriber of the bus, by what it made of them."},
		{Name: SharedConnected, Kind: Gauge, Labels: provider,
			Help: "Whether tokens are drawn from the budget that the provider shares with other replicas: 1, or 0 while it cannot be reached; absent where the budget is its own."},
		{Name: SharedLosses, Kind: Counter, Labels: provider,
			Help: "Times that the shared budget could no longer be reached."},
		{Name: SharedDraws, Kind: Counter, Labels: []string{LabelProvider, LabelOutcome},
			Help: "Draws from the shared budget, by what came of them."},
		{Name: SharedDrawn, Kind: Counter, Labels: provider,
			Help: "Tokens drawn from the shared budget."},
		{Name: SharedReturned, Kind: Counter, Labels: provider,
			Help: "Tokens given back to the shared budget, for they were not needed in time."},
	}
}
