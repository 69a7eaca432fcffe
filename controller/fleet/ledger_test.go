package fleet

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const (
	ttl    = 15 * time.Second
	answer = 2 * time.Second // longest time that an answer takes
)

// process is a replica as it is, whatever the ledger believes.
type process struct {
	running, reachable, listed bool

	share float64 // 0 is none: it lets only its floor pass
	until time.Time
	fail  float64 // the scale of its fail mode
}

// inForce is the part of the budget that it may let pass now.
func (p *process) inForce(now time.Time) float64 {
	switch {
	case !p.running:
		return 0
	case now.Before(p.until):
		return p.share
	}
	return p.share * p.fail
}

// world is a ledger, and the replicas that it is kept of.
type world struct {
	*rapid.T
	now       time.Time
	processes map[string]*process
	ledger    *ledger
	holding   bool
	next      int
}

func (w *world) inForce() float64 {
	sum := 0.0
	for _, p := range w.processes {
		sum += p.inForce(w.now)
	}
	return sum
}

func (w *world) check(when string) {
	if sum := w.inForce(); sum > 1+1e-9 {
		w.Fatalf("%s: %v of the budget may be in force: %+v; the ledger says %v", when, sum, w.shares(), w.ledger.inForce())
	}
}

func (w *world) shares() (all []string) {
	for address, p := range w.processes {
		r := w.ledger.rows[address]
		all = append(all, fmt.Sprintf("%s %+v %+v", address, *p, r))
	}
	return all
}

// pass lets time go by, in which leases run out.
func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

// put asks one replica to take a share, and tells the ledger what came of it. An
// answer may be lost, and then the request was heard or was not.
func (w *world) put(address string, share float64) {
	p, sent := w.processes[address], w.now
	refused := w.ledger.asking(address, share, sent.Add(answer+ttl))
	switch {
	case !p.running:
		w.ledger.silent(address, true)
		return
	case !p.reachable:
		w.ledger.silent(address, false)
		return
	case rapid.IntRange(0, 9).Draw(w.T, "refused") == 0:
		refused()
		return
	case rapid.IntRange(0, 9).Draw(w.T, "lost") == 0:
		if rapid.Bool().Draw(w.T, "heard") {
			p.share, p.until = share, w.now.Add(rapid.SampledFrom([]time.Duration{0, answer}).Draw(w.T, "late")+ttl)
		}
		w.ledger.silent(address, false)
		return
	}
	p.share, p.until = share, w.now.Add(ttl)
	w.ledger.found(w.now, address, share, w.now.Add(ttl), p.fail)
}

// look asks one replica what it has.
func (w *world) look(address string, reports map[string]report) {
	p := w.processes[address]
	switch {
	case !p.running:
		w.ledger.silent(address, true)
	case !p.reachable:
		w.ledger.silent(address, false)
	case w.holding && !w.ledger.rows[address].unknown && p.share > 0:
		w.ledger.back(address)
	default:
		reports[address] = report{share: p.share}
		w.ledger.found(w.now, address, p.share, p.until, p.fail)
	}
}

// round is what a fleet does at every tick.
func (w *world) round() {
	l := w.ledger
	var listed []string
	for address, p := range w.processes {
		if p.listed {
			listed = append(listed, address)
		}
	}
	l.list(w.now, listed)
	reports := map[string]report{}
	asked := l.others()
	if !w.holding {
		asked = append(asked, l.answering()...)
	}
	for _, address := range asked {
		w.look(address, reports)
	}
	if !w.holding {
		l.begin(w.now, ttl+answer, reports)
		w.holding = true
	}
	all := l.answering()
	if len(all) == 0 {
		return
	}
	wanted := equally(l.budget(), all)
	if rapid.Bool().Draw(w.T, "by demand") {
		demands := map[string]float64{}
		for _, address := range all {
			if rapid.Bool().Draw(w.T, "known") {
				demands[address] = rapid.Float64Range(0, 1).Draw(w.T, "demand")
			}
		}
		wanted = byDemand(l.budget(), all, demands)
	}
	for _, step := range []func(map[string]float64) map[string]float64{l.shrunk, l.grown} {
		shares := step(wanted)
		for _, address := range all { // the order of a map is not that of the draws
			if share, some := shares[address]; some && l.rows[address].answering {
				w.put(address, share)
				w.check("after a share was given")
			}
		}
	}
}

// Whatever joins, leaves, hangs, dies or comes back, and whoever keeps the
// ledger, no more than the budget may be in force.
func TestNoMoreThanTheBudgetIsEverInForce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fail := rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(rt, "fail scale")
		w := &world{T: rt, now: time.Unix(1000, 0), processes: map[string]*process{}, ledger: newLedger()}
		some := func() *process {
			if w.next == 0 {
				return nil
			}
			return w.processes[fmt.Sprint("r", rapid.IntRange(0, w.next-1).Draw(rt, "which"))]
		}
		rt.Repeat(map[string]func(*rapid.T){
			"join": func(*rapid.T) {
				if w.next < 8 {
					w.processes[fmt.Sprint("r", w.next)] = &process{running: true, reachable: true, listed: true, fail: fail}
					w.next++
				}
			},
			"leave": func(*rapid.T) {
				if p := some(); p != nil {
					*p = process{fail: fail}
				}
			},
			// For as long as it may have something, or less. A ledger that is new could
			// not know of it.
			"leave the list first": func(*rapid.T) {
				if p := some(); p != nil && w.holding && w.now.Before(p.until) {
					p.listed = false
					w.round()
					*p = process{fail: fail}
				}
			},
			"come again": func(*rapid.T) {
				if p := some(); p != nil && !p.listed {
					*p = process{running: true, reachable: true, listed: true, fail: fail}
				}
			},
			"restart": func(*rapid.T) {
				if p := some(); p != nil && p.listed {
					p.running, p.share, p.until = true, 0, time.Time{}
				}
			},
			"crash": func(*rapid.T) {
				if p := some(); p != nil {
					p.running, p.share, p.until = false, 0, time.Time{}
				}
			},
			"cut off": func(*rapid.T) {
				if p := some(); p != nil && p.listed {
					p.reachable = false
				}
			},
			"reach again": func(*rapid.T) {
				if p := some(); p != nil {
					p.reachable = true
				}
			},
			"another ledger": func(*rapid.T) {
				if rapid.Bool().Draw(rt, "anew") {
					w.ledger = newLedger()
				}
				w.holding = false
			},
			"a moment": func(*rapid.T) { w.pass(time.Duration(rapid.IntRange(0, 6000).Draw(rt, "ms")) * time.Millisecond) },
			"a while":  func(*rapid.T) { w.pass(ttl + answer) },
			"round":    func(*rapid.T) { w.round() },
			"rounds": func(*rapid.T) {
				for range 3 {
					w.round()
					w.pass(5 * time.Second)
				}
			},
			"": func(*rapid.T) { w.check("later") },
		})
	})
}

// Once everybody answers and the past has run out, the whole budget is given, in
// equal parts.
func TestTheWholeBudgetIsGivenOnceThePastHasRunOut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLedger()
		now := time.Unix(1000, 0)
		var all []string
		n := rapid.IntRange(1, 6).Draw(rt, "replicas")
		for i := range n {
			all = append(all, fmt.Sprint("r", i))
		}
		l.list(now, all)
		reports := map[string]report{}
		for _, address := range all {
			had := rapid.Float64Range(0, 1/float64(n)).Draw(rt, "had")
			reports[address] = report{share: had}
			l.found(now, address, had, now.Add(ttl), 0.5)
		}
		l.begin(now, ttl, reports)
		for range 8 {
			l.list(now, all)
			for _, step := range []func(map[string]float64) map[string]float64{l.shrunk, l.grown} {
				for address, share := range step(equally(l.budget(), all)) {
					l.asking(address, share, now.Add(ttl))
					l.found(now, address, share, now.Add(ttl), 0.5)
				}
			}
			now = now.Add(5 * time.Second)
		}
		for _, address := range all {
			if got := l.rows[address].share; math.Abs(got-1/float64(n)) > 1e-9 {
				rt.Fatalf("%s has %v, want its part of %d", address, got, n)
			}
		}
	})
}
