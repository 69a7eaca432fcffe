package fleet

import (
	"slices"
	"time"
)

// ledger knows what part of one budget each replica of a provider may have in
// force, and so how much there is to give. The budget is 1. It has no clock and
// talks to nobody.
//
// What counts of a replica is the most that it may have, not what it was last
// heard to have: a request that was not answered may have been heard, and one
// that was to take something away may not. So a share is given before it is
// asked for, and taken back when the replica has said so.
//
// A replica that does not answer keeps its share until its lease has run out,
// for so long nobody can take it away. From then on it is in its fail mode,
// which leaves it a part of the share, as long as it may be at work at all: until
// it is no longer listed, or nobody listens where it was.
type ledger struct {
	rows map[string]*row // by the replica's address

	// elsewhere is what replicas may have that this ledger knows nothing of, for
	// another one gave it to them: until a lease's time has passed, and from then on
	// while there is one listed that never answered.
	elsewhere float64
	until     time.Time
}

// row is one replica.
type row struct {
	share float64   // the most that it may have; 0 before it was given any
	until time.Time // when the lease that it has it under has run out for certain

	// left is the part of the share that is in force after that: the scale of the
	// fail mode, in [0, 1].
	left float64

	listed    bool // it is among those that were found
	answering bool // it answered when it was asked last
	down      bool // nobody listens there
	unknown   bool // it has not answered since the ledger began
}

func newLedger() *ledger { return &ledger{rows: map[string]*row{}} }

// list takes in which replicas there are. One that is not among them keeps its
// row until its lease has run out.
func (l *ledger) list(now time.Time, addresses []string) {
	for _, r := range l.rows {
		r.listed = false
	}
	for _, address := range addresses {
		r := l.rows[address]
		if r == nil {
			r = &row{left: 1, unknown: true}
			l.rows[address] = r
		}
		r.listed = true
	}
	l.lapse(now)
}

// lapse takes back what has run out.
func (l *ledger) lapse(now time.Time) {
	for address, r := range l.rows {
		if r.answering && r.listed || now.Before(r.until) {
			continue
		}
		switch {
		case !r.listed:
			delete(l.rows, address)
		case r.down:
			r.share = 0
		default:
			r.share, r.left = r.share*r.left, 1
		}
	}
	if !now.Before(l.until) && !l.hidden() {
		l.elsewhere = 0
	}
}

// hidden reports whether a replica may have something that nobody here knows of.
func (l *ledger) hidden() bool {
	for _, r := range l.rows {
		if r.listed && r.unknown && !r.down {
			return true
		}
	}
	return false
}

// report is what a replica says that it has.
type report struct {
	share float64 // that a controller gave it, also where the lease has run out; 0 where none did
	own   float64 // where none did: the part of the budget that is in force by itself
}

// begin makes all of the rows that did not answer unknown, for another ledger
// was kept since, or none. What these may have is what the others have not, while
// there is such a replica; else it is what the ledger before gave to replicas
// that are no longer listed. Reports are of those that answered.
//
// Where a replica does not answer, and no other was ever given anything, what
// the others have by themselves, up to an equal part, is taken for given: so one
// that is dead from the beginning does not stop all.
func (l *ledger) begin(now time.Time, ttl time.Duration, reports map[string]report) {
	given, listed := 0.0, 0
	for address, r := range l.rows {
		if !r.answering {
			*r = row{left: 1, unknown: true, listed: r.listed, down: r.down}
		}
		if r.listed {
			listed++
		}
		given += reports[address].share
	}
	hidden := l.hidden()
	held := 0.0
	for address, r := range l.rows {
		if hidden && given == 0 && r.answering {
			r.share = min(reports[address].own, 1/float64(listed))
		}
		held += r.share
	}
	switch {
	case hidden:
		l.elsewhere = max(0, 1-held)
	case given > 0:
		l.elsewhere = max(0, 1-given)
	default: // nobody ever shared anything out
		l.elsewhere = 0
	}
	l.until = now.Add(ttl)
}

// found takes in what a replica says that it has: a share under a lease, and the
// part of it that its fail mode leaves, or left already where the lease has run
// out.
func (l *ledger) found(now time.Time, address string, share float64, until time.Time, left float64) {
	r := l.rows[address]
	if !now.Before(until) {
		share, left = share*left, 1
	}
	if r.unknown { // it had this of what nobody knew of
		l.elsewhere = max(0, l.elsewhere-share)
	}
	r.share, r.until, r.left = share, until, left
	r.answering, r.down, r.unknown = true, false, false
}

// back says that a replica answers again which has what it had.
func (l *ledger) back(address string) { l.rows[address].answering, l.rows[address].down = true, false }

// asking says that a replica may have a share from now on, under a lease that has
// run out by then. It returns what takes that back where it is certain that the
// replica did not take it.
func (l *ledger) asking(address string, share float64, until time.Time) (refused func()) {
	r := l.rows[address]
	before := *r
	r.share = max(r.share, share)
	if until.After(r.until) {
		r.until = until
	}
	return func() { r.share, r.until = before.share, before.until }
}

// silent says that a replica did not answer; down, that nobody listens there.
func (l *ledger) silent(address string, down bool) {
	l.rows[address].answering, l.rows[address].down = false, down
}

// inForce is the most of the budget that may be in force.
func (l *ledger) inForce() float64 {
	sum := l.elsewhere
	for _, r := range l.rows {
		sum += r.share
	}
	return sum
}

// budget is what those that answer may have together, once all of them have what
// they are to have.
func (l *ledger) budget() float64 {
	rest := 1 - l.elsewhere
	for _, r := range l.rows {
		if !r.answering || !r.listed {
			rest -= r.share
		}
	}
	return max(0, rest)
}

// answering are the replicas that can be asked, in order.
func (l *ledger) answering() []string {
	var all []string
	for address, r := range l.rows {
		if r.answering && r.listed {
			all = append(all, address)
		}
	}
	slices.Sort(all)
	return all
}

// others are those that are listed and do not answer, or never did, in order.
func (l *ledger) others() []string {
	var all []string
	for address, r := range l.rows {
		if !r.answering && r.listed {
			all = append(all, address)
		}
	}
	slices.Sort(all)
	return all
}

// shrunk is what each of those that answer and have something is to have first:
// what is wanted of them, and no more than they have.
func (l *ledger) shrunk(wanted map[string]float64) map[string]float64 {
	first := map[string]float64{}
	for address, share := range wanted {
		if r := l.rows[address]; r.answering && r.share > 0 {
			first[address] = min(share, r.share)
		}
	}
	return first
}

// grown is what those that have less than is wanted of them are to have then, for
// there is room. Where there is too little for all of them, each gets the same
// part of what it lacks.
func (l *ledger) grown(wanted map[string]float64) map[string]float64 {
	lacking := 0.0
	for address, share := range wanted {
		if r := l.rows[address]; r.answering {
			lacking += max(0, share-r.share)
		}
	}
	room := max(0, 1-l.inForce())
	part := 1.0
	if lacking > room {
		part = room / lacking
	}
	then := map[string]float64{}
	for address, share := range wanted {
		if r := l.rows[address]; r.answering && share > r.share {
			then[address] = r.share + (share-r.share)*part
		}
	}
	return then
}
