package coordinator

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headgate/headgate/internal/invalid"
)

// shared is a lease that gives a part of the budget.
func shared(holder string, sequence uint64, scale, share float64) ScaleRequest {
	r := lease(holder, sequence, scale)
	r.Share = share
	return r
}

func TestTheRateIsTheShareOfTheBaseTimesTheScaleAndNeverBelowTheFloor(t *testing.T) {
	for _, test := range []struct {
		name         string
		scale, share float64
		rate         float64
		wantShare    float64
	}{
		{"a fifth of the budget", 1, 0.2, 20, 0.2},
		{"half of a fifth", 0.5, 0.2, 10, 0.2},
		{"no share is the whole", 0.5, 0, 50, 1},
		{"the floor is not shared", 1, 0.001, 1, 0.001},
		{"parked", 0, 0.2, 1, 0.2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := apply(t, started(t, ibkr()), shared("a", 1, test.scale, test.share))
				if s.EffectivePerSecond != test.rate || s.Share != test.wantShare || s.BasePerSecond != 100 {
					t.Errorf("got %v per second with a share of %v of %v, want %v with %v of 100",
						s.EffectivePerSecond, s.Share, s.BasePerSecond, test.rate, test.wantShare)
				}
			})
		})
	}
}

func TestTheShareOutlivesItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, ibkr()) // whose fail mode is safe, 0.5
		apply(t, c, shared("a", 1, 1, 0.2))
		time.Sleep(15 * time.Second)
		if s := state(t, c, "ibkr"); s.Share != 0.2 || s.EffectivePerSecond != 10 {
			t.Errorf("after the lease: %v per second with a share of %v, want the fail mode's half of 20", s.EffectivePerSecond, s.Share)
		}
		c.SetScale("ibkr", 0.1)
		if s := apply(t, c, override(1, time.Minute)); s.Share != 0.2 || s.EffectivePerSecond != 2 {
			t.Errorf("feedback and an operator left %v per second with a share of %v, want 2 with 0.2", s.EffectivePerSecond, s.Share)
		}
		if s := apply(t, c, lease("b", 1, 1)); s.Share != 1 {
			t.Errorf("a controller that knows of no shares left %v, want the whole", s.Share)
		}
	})
}

func TestAReplicaComesUpWithItsInitialShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := ibkr()
		p.InitialShare, p.StartInFailMode = 0.1, true
		c := started(t, p)
		if s := state(t, c, "ibkr"); s.Share != 0.1 || s.EffectivePerSecond != 5 {
			t.Errorf("came up at %v per second with a share of %v, want the fail mode's half of a tenth", s.EffectivePerSecond, s.Share)
		}
		if s := apply(t, c, shared("a", 1, 1, 0.5)); s.EffectivePerSecond != 50 {
			t.Errorf("got %v per second, want the first lease's half", s.EffectivePerSecond)
		}
	})
}

func TestAnotherShareIsAChangeEvenAtTheSameRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, ibkr())
		before := apply(t, c, shared("a", 1, 0, 0.5))
		after := apply(t, c, shared("a", 2, 0, 0.25))
		if after.Version == before.Version {
			t.Error("nobody was told of a share that changed while the provider was parked")
		}
		if again := apply(t, c, shared("a", 2, 0, 0.25)); again.Version != after.Version {
			t.Error("the same request twice was two changes")
		}
		stale := shared("a", 2, 0, 0.3)
		if s, err := c.Apply("ibkr", stale); err == nil || s.Share != 0.25 {
			t.Errorf("an old sequence with another share: %v and a share of %v, want a conflict and 0.25", err, s.Share)
		}
	})
}

func TestAShareThatIsNoneIsRefused(t *testing.T) {
	c := started(t, ibkr())
	for _, share := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1)} {
		_, err := c.Apply("ibkr", shared("a", 1, 1, share))
		if all := invalid.All(err); len(all) != 1 || all[0].Field != "share" {
			t.Errorf("share %v: got %v, want an error of the share", share, err)
		}
	}
	r := override(1, time.Minute)
	r.Share = 0.5
	if _, err := c.Apply("ibkr", r); len(invalid.All(err)) != 1 {
		t.Errorf("an operator's share: got %v, want an error", err)
	}
	p := ibkr()
	p.Name, p.InitialShare = "bulk", 2
	if err := c.Register(p); len(invalid.All(err)) != 1 {
		t.Errorf("an initial share of 2: got %v, want an error", err)
	}
}

func TestTheStateCountsTheTokensThatWereGranted(t *testing.T) {
	c := started(t, ibkr())
	for _, n := range []int{1, 3} {
		if err := c.TryAcquire("ibkr", n); err != nil {
			t.Fatal(err)
		}
	}
	if s := state(t, c, "ibkr"); s.Granted != 4 {
		t.Errorf("got %d tokens, want 4", s.Granted)
	}
}
