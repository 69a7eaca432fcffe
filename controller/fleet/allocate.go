package fleet

import (
	"slices"
	"time"

	"github.com/headgate/headgate/coordinator"
)

// Sharing says how a budget is divided among the replicas that answer.
type Sharing string

const (
	// ShareEqually gives each the same.
	ShareEqually Sharing = "equal"

	// ShareByDemand gives those that use less than the same what they use and a
	// quarter more, and divides the rest evenly among the others. None gets less
	// than a tenth of the same, so that its demand can show.
	ShareByDemand Sharing = "demand"
)

const (
	headroom  = 1.25 // of what a replica uses, so that it can rise
	leastPart = 0.1  // of an equal share
	usesAll   = 0.95 // of its rate: it would use more

	// shortestLook is the least time over which a demand is measured.
	shortestLook = 200 * time.Millisecond
)

// equally divides a budget into the same parts.
func equally(budget float64, addresses []string) map[string]float64 {
	shares := make(map[string]float64, len(addresses))
	for _, address := range addresses {
		shares[address] = budget / float64(len(addresses))
	}
	return shares
}

// byDemand divides a budget by what the replicas would use of it, as shares; one
// that has no demand here would use all it can get.
func byDemand(budget float64, addresses []string, demands map[string]float64) map[string]float64 {
	same := budget / float64(len(addresses))
	order := slices.Clone(addresses)
	wants := func(address string) (float64, bool) {
		demand, known := demands[address]
		return max(demand*headroom, leastPart*same), known
	}
	// Those that want least are served first, and what they leave is for the rest.
	slices.SortStableFunc(order, func(a, b string) int {
		x, knownX := wants(a)
		y, knownY := wants(b)
		switch {
		case knownX != knownY:
			if knownX {
				return -1
			}
			return 1
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	shares := make(map[string]float64, len(order))
	rest := budget
	for i, address := range order {
		even := rest / float64(len(order)-i)
		share := even
		if want, known := wants(address); known {
			share = min(want, even)
		}
		shares[address] = share
		rest -= share
	}
	// What nobody asks for is everybody's, so that whoever comes to need it has it.
	for _, address := range order {
		shares[address] += max(0, rest) / float64(len(order))
	}
	return shares
}

// demand measures what one replica would use of the budget.
type demand struct {
	at      time.Time
	granted uint64
	share   float64 // NaN-free; only where known
	known   bool    // else it would use more than it has, or nothing was measured yet
}

// saw takes in a replica's state.
func (d *demand) saw(now time.Time, s coordinator.State) {
	elapsed := now.Sub(d.at)
	if !d.at.IsZero() && elapsed < shortestLook {
		return
	}
	used := float64(s.Granted-d.granted) / elapsed.Seconds()
	restarted := d.at.IsZero() || s.Granted < d.granted
	d.at, d.granted = now, s.Granted
	full := s.BasePerSecond * s.Scale // the rate of the whole budget
	switch {
	case restarted:
		d.known = false
	case full == 0: // parked: what it would use is not to be seen
	case s.Waiters > 0 || used >= usesAll*s.EffectivePerSecond:
		d.known = false
	default:
		d.share, d.known = used/full, true
	}
}
