package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/internal/seldom"
)

// budget is one provider's budget, and the replicas that share it. Its calls come
// one at a time.
type budget struct {
	config Config
	log    *slog.Logger

	mu        sync.Mutex // held over each call
	ledger    *ledger
	gates     map[string]Replica // by address
	demands   map[string]*demand // by address
	addresses []string           // found last
	looked    time.Time
	lookError error // of the last look, nil where it found some
	unfound   seldom.Condition
	logged    []string // the replicas that the log has, sorted
	replicas  seldom.Changes

	holder    string    // of the leases that were put last
	heldUntil time.Time // when the first of them may have run out; zero where another holds one
	sequence  uint64    // the last one used

	override *override // by this fleet, nil where there is none
}

func newBudget(config Config, log *slog.Logger) *budget {
	return &budget{
		config: config, log: log, ledger: newLedger(),
		gates: map[string]Replica{}, demands: map[string]*demand{},
	}
}

const (
	// leastShare is as good as none, for a replica is always told the scale, and
	// no share at all stands for the whole.
	leastShare = 1e-9

	// worthGrowing is the part of the budget for which a replica that was asked
	// already is asked again in the same call.
	worthGrowing = 1e-6

	// steady is the part of an equal share by which a demand has to have changed
	// any share for the shares to change.
	steady = 0.05

	// mostCalls is how many replicas are talked to at once.
	mostCalls = 64
)

// apply gives every replica the scale and its share under the lease, and returns
// the state of all that answered together. First those have to shrink that have
// more than they are to have, and only then, and only into the room that there
// is, others grow.
//
// The error is a *coordinator.ConflictError where another holder has the lease of
// any replica, which then ends the call, and a *controller.PartialError where
// some could not be told.
func (b *budget) apply(ctx context.Context, provider string, lease coordinator.ScaleRequest) (coordinator.State, error) {
	r, err := b.round(ctx, provider)
	if err != nil {
		return coordinator.State{}, err
	}
	b.sequence = max(b.sequence, lease.Sequence-1)
	if time.Now().After(b.heldUntil) || b.holder != lease.Holder {
		err = r.takeOver(ctx, lease)
	} else {
		err = r.readOthers(ctx, b.ledger.others())
	}
	if err != nil {
		return coordinator.State{}, err
	}
	wanted := b.wanted()
	if err := r.put(ctx, 0.5, lease, b.ledger.shrunk(wanted)); err != nil {
		return coordinator.State{}, err
	}
	if err := r.put(ctx, 1, lease, r.later(wanted)); err != nil {
		return coordinator.State{}, err
	}
	r.carry(ctx)
	return r.result()
}

// state reads the state of all replicas together. The error is as of apply.
func (b *budget) read(ctx context.Context, provider string) (coordinator.State, error) {
	r, err := b.round(ctx, provider)
	if err != nil {
		return coordinator.State{}, err
	}
	r.ask(ctx, 1, b.addresses, r.state)
	return r.result()
}

// wanted is what each replica that answers is to have in the end.
func (b *budget) wanted() map[string]float64 {
	all, budget := b.ledger.answering(), b.ledger.budget()
	if b.config.Sharing != ShareByDemand {
		return equally(budget, all)
	}
	demands := map[string]float64{}
	for _, address := range all {
		if d := b.demands[address]; d != nil && d.known {
			demands[address] = d.share
		}
	}
	wanted := byDemand(budget, all, demands)
	have, most := map[string]float64{}, 0.0
	for _, address := range all {
		have[address] = b.ledger.rows[address].share
		most = max(most, math.Abs(wanted[address]-have[address]))
	}
	if most < steady*budget/float64(max(1, len(all))) {
		return have
	}
	return wanted
}

// look finds the replicas, where it is time to. A look that fails leaves those
// that were found before.
func (b *budget) look(ctx context.Context) error {
	now := time.Now()
	if b.addresses == nil || now.Sub(b.looked) >= b.config.Every {
		ctx, cancel := part(ctx, 0.25)
		defer cancel()
		found, err := b.config.Find.Find(ctx)
		if err == nil && len(found) == 0 {
			err = errors.New("there is none")
		}
		b.looked = now
		leftOut, tell := b.unfound.Now(now, err != nil && b.addresses != nil)
		switch {
		case tell && err != nil:
			b.log.WarnContext(ctx, "replicas cannot be found, those of before are kept", "replicas", len(b.addresses), "error", err, "left_out", leftOut)
		case tell:
			b.log.InfoContext(ctx, "replicas are found again", "replicas", len(found))
		}
		b.lookError = err
		if err == nil {
			slices.Sort(found)
			b.addresses = slices.Compact(found)
		}
	}
	if b.addresses == nil {
		return fmt.Errorf("find the replicas: %w", b.lookError)
	}
	return nil
}

// round begins a call: it finds the replicas and opens the way to new ones.
func (b *budget) round(ctx context.Context, provider string) (*round, error) {
	if err := b.look(ctx); err != nil {
		return nil, err
	}
	b.ledger.list(time.Now(), b.addresses)
	changed := false
	r := &round{budget: b, provider: provider, told: map[string]bool{},
		states: map[string]coordinator.State{}, failed: map[string]error{}}
	for _, address := range b.addresses {
		if b.gates[address] != nil {
			continue
		}
		gate, err := b.config.Open(address)
		if err != nil {
			return nil, fmt.Errorf("replica %s: %w", address, err)
		}
		b.gates[address], b.demands[address] = gate, &demand{}
		changed = true
	}
	for address := range b.gates {
		if b.ledger.rows[address] == nil {
			delete(b.gates, address)
			delete(b.demands, address)
			changed = true
		}
	}
	b.tell(ctx, provider, changed)
	return r, nil
}

// tell logs which replicas are there that were not, and the other way round, since
// this was logged last. Where they change again and again it is logged less and
// less.
func (b *budget) tell(ctx context.Context, provider string, changed bool) {
	leftOut, tell := b.replicas.Now(time.Now(), changed)
	if !tell {
		return
	}
	now := slices.Sorted(maps.Keys(b.gates))
	without := func(all, others []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(address string) bool {
			_, found := slices.BinarySearch(others, address)
			return found
		})
	}
	b.log.InfoContext(ctx, "replicas changed", "provider", provider, "replicas", len(now),
		"found", without(now, b.logged), "gone", without(b.logged, now), "left_out", leftOut)
	b.logged = now
}

// round is one call.
type round struct {
	*budget
	provider string
	states   map[string]coordinator.State // of those that answered, the newest
	failed   map[string]error             // of those that did not
	told     map[string]bool              // those that took the lease
}

// takeOver reads what every replica has, for this ledger does not know it, and
// begins the ledger with it. It is an error where another holder has a lease.
func (r *round) takeOver(ctx context.Context, lease coordinator.ScaleRequest) error {
	r.heldUntil = time.Time{}
	reports := map[string]report{}
	r.ask(ctx, 0.3, r.addresses, r.state)
	var conflict error
	latest := time.Duration(0)
	for address, s := range r.states {
		given, held := leaseOf(s)
		if held && given.Holder != lease.Holder {
			if left := expiry(given); left >= latest {
				latest = left
				conflict = fmt.Errorf("replica %s: %w", address, &coordinator.ConflictError{
					Holder: given.Holder, Sequence: given.Sequence, ExpiresIn: left})
			}
		}
		reports[address] = report{share: shareOf(s), own: s.Share * s.Scale}
	}
	if conflict != nil {
		return conflict
	}
	r.holder = lease.Holder
	r.ledger.begin(time.Now(), lease.TTL+patience(ctx), reports)
	return nil
}

// readOthers asks those that did not answer the last time, or are new, what they have.
func (r *round) readOthers(ctx context.Context, addresses []string) error {
	r.ask(ctx, 0.3, addresses, r.state)
	for _, address := range addresses {
		if s, answered := r.states[address]; answered {
			if given, held := leaseOf(s); held && given.Holder != r.holder {
				r.heldUntil = time.Time{}
				return fmt.Errorf("replica %s: %w", address, &coordinator.ConflictError{
					Holder: given.Holder, Sequence: given.Sequence, ExpiresIn: expiry(given)})
			}
		}
	}
	return nil
}

// state reads a replica's state.
func (r *round) state(ctx context.Context, address string) func() {
	s, err := r.gates[address].State(ctx, r.provider)
	return func() {
		if err != nil {
			r.fail(address, err)
			return
		}
		now, row := time.Now(), r.ledger.rows[address]
		r.answered(now, address, s)
		given, held := leaseOf(s)
		switch {
		case now.Before(r.heldUntil) && !row.unknown && given.Owner != "" && (!held || given.Holder == r.holder):
			r.ledger.back(address) // what it may have is known better here
		case held:
			r.ledger.found(now, address, s.Share, now.Add(expiry(given)), leftBy(s))
		default:
			r.ledger.found(now, address, shareOf(s), now, leftBy(s))
		}
	}
}

// later is what is to be put second: more for those that are to grow, and the
// scale alone for those that have no share yet and cannot get any.
func (r *round) later(wanted map[string]float64) map[string]float64 {
	then := r.ledger.grown(wanted)
	for _, address := range r.ledger.answering() {
		share, grows := then[address]
		switch {
		case !r.told[address] && !grows:
			then[address] = r.ledger.rows[address].share
		case r.told[address] && share-r.ledger.rows[address].share < worthGrowing:
			delete(then, address)
		}
	}
	return then
}

// put puts shares in force, and the scale with them, within a part of the time
// that is left. While this holder has no lease yet, one replica after another is
// asked alone until one has taken it: so of two holders that come at once only
// one goes on.
func (r *round) put(ctx context.Context, of float64, lease coordinator.ScaleRequest, shares map[string]float64) error {
	r.sequence++
	lease.Sequence = r.sequence
	sent := time.Now()
	undo := map[string]func(){}
	for address, share := range shares {
		undo[address] = r.ledger.asking(address, share, sent.Add(patience(ctx)+lease.TTL))
	}
	var conflict error
	tell := func(ctx context.Context, address string) func() {
		lease := lease
		lease.Share = max(leastShare, shares[address])
		s, err := r.gates[address].Apply(ctx, r.provider, lease)
		return func() {
			var held *coordinator.ConflictError
			switch {
			case err == nil:
				now := time.Now()
				r.answered(now, address, s)
				r.told[address] = true
				r.ledger.found(now, address, shares[address], now.Add(lease.TTL), leftBy(s))
				r.heldUntil = sent.Add(lease.TTL)
			case errors.As(err, &held) && held.Stale: // the clock has gone back since this holder's last life
				undo[address]()
				r.sequence = max(r.sequence, held.Sequence)
				r.failed[address] = fmt.Errorf("replica %s: %w", address, err)
			case errors.As(err, &held):
				undo[address]()
				conflict = fmt.Errorf("replica %s: %w", address, err)
			default:
				if refused(err) {
					undo[address]()
				}
				r.fail(address, err)
			}
		}
	}
	rest := slices.Sorted(maps.Keys(shares))
	for len(rest) > 0 && r.heldUntil.IsZero() && conflict == nil {
		r.ask(ctx, of/2, rest[:1], tell)
		rest = rest[1:]
	}
	if conflict == nil {
		r.ask(ctx, of, rest, tell)
	} else {
		for _, address := range rest {
			undo[address]()
		}
	}
	if conflict != nil {
		r.heldUntil = time.Time{}
	}
	return conflict
}

// ask talks to some replicas side by side, within a part of the time that is
// left, and then takes in what came of it, one after another.
func (r *round) ask(ctx context.Context, of float64, addresses []string, do func(context.Context, string) (then func())) {
	ctx, cancel := part(ctx, of)
	defer cancel()
	then := make([]func(), len(addresses))
	slots := make(chan struct{}, mostCalls)
	var asking sync.WaitGroup
	for i, address := range addresses {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			then[i] = do(ctx, address)
		})
	}
	asking.Wait()
	for _, take := range then {
		take()
	}
}

// answered takes in a state.
func (r *round) answered(now time.Time, address string, s coordinator.State) {
	if r.failed[address] != nil {
		delete(r.failed, address)
	}
	r.states[address] = s
	r.demands[address].saw(now, s)
}

// fail takes in that a replica could not be told or asked.
func (r *round) fail(address string, err error) {
	r.failed[address] = fmt.Errorf("replica %s: %w", address, err)
	down := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, coordinator.ErrUnknownProvider)
	r.ledger.silent(address, down)
}

// result is what all that answered are at together.
func (r *round) result() (coordinator.State, error) {
	var failed []error
	for _, address := range slices.Sorted(maps.Keys(r.failed)) {
		failed = append(failed, r.failed[address])
	}
	if len(r.states) == 0 {
		return coordinator.State{}, errors.Join(failed...)
	}
	all := together(r.states)
	if failed != nil {
		return all, &controller.PartialError{Of: len(r.addresses), Failed: failed}
	}
	return all, nil
}

// refused reports whether it is certain that a replica did not do what it was
// asked for.
func refused(err error) bool {
	var answer *client.Error
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &answer) && answer.Status < 500
}

// part is a part of the time that a context has left.
func part(ctx context.Context, of float64) (context.Context, context.CancelFunc) {
	if of >= 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(of*float64(patience(ctx))))
}

// patience is how long a context has left, a minute where it has no end.
func patience(ctx context.Context) time.Duration {
	if end, some := ctx.Deadline(); some {
		return max(0, time.Until(end))
	}
	return time.Minute
}
