package coordinator

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestLeasesDoWhatTheObviousLockDoes runs random programs of two controllers
// before one coordinator, on the coordinator and on the obvious model. Their
// requests are delayed, doubled and overtake one another, as after a pause or on a
// network that is broken; leases run out, the coordinator is restarted, and
// operators override.
//
// Each program is run again with clocks of the controllers that are minutes apart,
// and has to come to the same.
func TestLeasesDoWhatTheObviousLockDoes(t *testing.T) {
	const rounds = 10 // of as many programs as rapid runs
	for range rounds {
		rapid.Check(t, leasesDoWhatTheObviousLockDoes(t))
	}
}

func leasesDoWhatTheObviousLockDoes(t *testing.T) func(*rapid.T) {
	return func(rt *rapid.T) {
		mode := rapid.SampledFrom([]FailMode{FailHold, FailOpen, FailSafe, FailClosed}).Draw(rt, "fail mode")
		program := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) move {
			return move{
				kind:   rapid.SampledFrom([]moveKind{decide, decide, deliver, deliver, deliver, repeat, elapse, elapse, overrideIt, clearIt, fastLoop, restart}).Draw(t, "move"),
				holder: rapid.IntRange(0, 2).Draw(t, "holder"),
				which:  rapid.IntRange(0, 100).Draw(t, "which request"),
				scale:  float64(rapid.IntRange(0, 10).Draw(t, "tenths")) / 10,
				d:      time.Duration(rapid.IntRange(1, 12).Draw(t, "half seconds")) * time.Second / 2,
			}
		}), 1, 60).Draw(rt, "program")
		offsets := make([]time.Duration, 3)
		for i := range offsets {
			offsets[i] = time.Duration(rapid.IntRange(-20, 20).Draw(rt, "minutes ahead")) * time.Minute
		}
		var together, apart []string
		var failed string
		synctest.Test(t, func(*testing.T) { together, failed = runLeases(program, mode, make([]time.Duration, 3)) })
		if failed != "" {
			rt.Fatal(failed)
		}
		synctest.Test(t, func(*testing.T) { apart, failed = runLeases(program, mode, offsets) })
		if failed != "" {
			rt.Fatalf("with clocks that are %v ahead: %s", offsets, failed)
		}
		if diff := cmp.Diff(together, apart); diff != "" {
			rt.Fatalf("with clocks that are %v ahead it comes to something else:\n%s", offsets, diff)
		}
	}
}

// move is one of a program. What its kind has no use for is not looked at.
type move struct {
	kind   moveKind
	holder int
	which  int // of the requests on their way
	scale  float64
	d      time.Duration
}

type moveKind uint8

const (
	decide     moveKind = iota // the holder sends a request for the scale and d, which is on its way then
	deliver                    // a request on its way comes in, in whatever order
	repeat                     // a request on its way comes in, and once more later
	elapse                     // d passes
	overrideIt                 // an operator sets the scale for d
	clearIt                    // an operator ends the override
	fastLoop                   // the queue's own feedback sets the scale
	restart                    // the coordinator is killed and started
)

// slowLock is the obvious model of a provider's scales.
type slowLock struct {
	mode FailMode

	holder         string
	scale          float64 // of the lease, or what it left
	decided        bool    // there was a lease since the start
	until          time.Duration
	newest         map[string]ScaleRequest // by holder, since the start
	override       float64
	overrideUntil  time.Duration
	fast           float64
	startUp, isSet bool // the fail mode of the start is in force; the fast loop has spoken
}

func newSlowLock(mode FailMode) *slowLock {
	return &slowLock{mode: mode, newest: map[string]ScaleRequest{}, startUp: true}
}

func (s *slowLock) failScale(last float64) float64 {
	switch s.mode {
	case FailHold:
		return last
	case FailOpen:
		return 1
	case FailClosed:
		return 0
	}
	return ibkr().SafeScale
}

// at lets what is over by now end.
func (s *slowLock) at(now time.Duration) {
	if s.holder != "" && now >= s.until {
		s.holder, s.scale = "", s.failScale(s.scale)
	}
	if now >= s.overrideUntil {
		s.overrideUntil = 0
	}
}

// apply says what becomes of a request: it counts, it is one that was there
// already, or it is refused because of a holder.
func (s *slowLock) apply(r ScaleRequest, now time.Duration) (verdict string) {
	newest, known := s.newest[r.Holder]
	switch {
	case s.holder != "" && s.holder != r.Holder:
		return "held by " + s.holder
	case known && r == newest:
		return "known"
	case known && r.Sequence <= newest.Sequence:
		return "old"
	}
	s.newest[r.Holder] = r
	s.holder, s.scale, s.until, s.decided, s.startUp = r.Holder, r.Scale, now+r.TTL, true, false
	return "counts"
}

// inForce is the lowest of what is in force.
func (s *slowLock) inForce() float64 {
	lowest := 1.0
	if s.startUp {
		lowest = min(lowest, s.failScale(ibkr().SafeScale)) // which hold has, for there is nothing to hold
	}
	if s.decided {
		lowest = min(lowest, s.scale)
	}
	if s.overrideUntil > 0 {
		lowest = min(lowest, s.override)
	}
	if s.isSet {
		lowest = min(lowest, s.fast)
	}
	return lowest
}

// runLeases runs a program and tells what was in force after each move.
func runLeases(program []move, mode FailMode, offsets []time.Duration) (trace []string, failed string) {
	begin := time.Now()
	p := ibkr()
	p.FailMode, p.StartInFailMode = mode, true
	var c *Coordinator
	var slow *slowLock
	up := func() error {
		c, slow = New(), newSlowLock(mode)
		return c.Register(p)
	}
	if err := up(); err != nil {
		return nil, err.Error()
	}
	defer func() { c.Close() }()

	var onTheirWay []ScaleRequest
	sequences := make([]uint64, len(offsets))
	for i, m := range program {
		now := time.Since(begin)
		slow.at(now)
		take := func(keep bool) (r ScaleRequest, found bool) {
			if len(onTheirWay) == 0 {
				return r, false
			}
			at := m.which % len(onTheirWay)
			r = onTheirWay[at]
			if !keep {
				onTheirWay = append(onTheirWay[:at:at], onTheirWay[at+1:]...)
			}
			return r, true
		}
		verdict := ""
		switch m.kind {
		case decide:
			// As controller.nextSequence has it.
			clock := uint64(time.Now().Add(offsets[m.holder]).UnixMicro())
			sequences[m.holder] = max(sequences[m.holder]+1, clock)
			onTheirWay = append(onTheirWay, ScaleRequest{
				Owner: OwnerController, Holder: string(rune('a' + m.holder)), Sequence: sequences[m.holder],
				Scale: m.scale, Share: 1, Reason: fmt.Sprint("move ", i), TTL: m.d,
			})
		case deliver, repeat:
			r, found := take(m.kind == repeat)
			if !found {
				continue
			}
			before := peek(c)
			_, err := c.Apply("ibkr", r)
			verdict = slow.apply(r, now)
			if got := verdictOf(err); got != verdict && !(got == "counts" && verdict == "known") {
				return trace, fmt.Sprintf("move %d: %s's request %q is answered %q, want %q", i, r.Holder, r.Reason, got, verdict)
			}
			if after := peek(c); verdict != "counts" && (after.Version != before.Version || !cmp.Equal(before.Scales, after.Scales)) {
				return trace, fmt.Sprintf("move %d: %s's request %q, which is %s, changes %+v to %+v", i, r.Holder, r.Reason, verdict, before, after)
			}
		case elapse:
			time.Sleep(m.d)
			synctest.Wait()
			now = time.Since(begin)
			slow.at(now)
		case overrideIt:
			if _, err := c.Apply("ibkr", ScaleRequest{Owner: OwnerOperator, Holder: "ann", Scale: m.scale, Reason: "test", TTL: m.d}); err != nil {
				return trace, err.Error()
			}
			slow.override, slow.overrideUntil = m.scale, now+m.d
		case clearIt:
			if _, err := c.ClearOverride("ibkr", "ann", "test"); err != nil {
				return trace, err.Error()
			}
			slow.overrideUntil = 0
		case fastLoop:
			c.SetScale("ibkr", m.scale)
			slow.fast, slow.isSet, slow.startUp = m.scale, true, false
		case restart:
			c.Close()
			if err := up(); err != nil {
				return trace, err.Error()
			}
		}
		got, want := seen(peek(c)), fmt.Sprintf("scale %v, held by %q for %v", slow.inForce(), slow.holder, max(0, slow.until-now))
		if slow.holder == "" {
			want = fmt.Sprintf("scale %v, held by nobody", slow.inForce())
		}
		if got != want {
			return trace, fmt.Sprintf("move %d: %s, want %s", i, got, want)
		}
		trace = append(trace, verdict+": "+got)
	}
	return trace, ""
}

func peek(c *Coordinator) State {
	s, err := c.State("ibkr")
	if err != nil {
		panic(err) // it is registered
	}
	return s
}

// seen is a state in the words of the model.
func seen(s State) string {
	for _, scale := range s.Scales {
		if scale.Owner == OwnerController && scale.Holder != "" {
			left := time.Duration(*scale.ExpiresInSeconds * float64(time.Second)).Round(time.Microsecond)
			return fmt.Sprintf("scale %v, held by %q for %v", s.Scale, scale.Holder, left)
		}
	}
	return fmt.Sprintf("scale %v, held by nobody", s.Scale)
}

func verdictOf(err error) string {
	var conflict *ConflictError
	switch {
	case err == nil:
		return "counts"
	case errors.As(err, &conflict) && conflict.Stale:
		return "old"
	case errors.As(err, &conflict):
		return "held by " + conflict.Holder
	}
	return err.Error()
}
