package coordinator

import (
	"errors"
	"io"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func lease(holder string, sequence uint64, scale float64) ScaleRequest {
	return ScaleRequest{
		Owner: OwnerController, Holder: holder, Sequence: sequence, Scale: scale,
		Level: pressure.Soft, Reason: "test", TTL: 15 * time.Second,
	}
}

func override(scale float64, ttl time.Duration) ScaleRequest {
	return ScaleRequest{Owner: OwnerOperator, Holder: "ann", Scale: scale, Reason: "maintenance", TTL: ttl}
}

func apply(t *testing.T, c *Coordinator, r ScaleRequest) State {
	t.Helper()
	s, err := c.Apply("ibkr", r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheLowestScaleInForceWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, ibkr())
		c.SetScale("ibkr", 0.8)
		apply(t, c, lease("a", 1, 0.6))
		if s := apply(t, c, override(0.9, time.Minute)); s.Scale != 0.6 || s.EffectivePerSecond != 60 || len(s.Scales) != 3 {
			t.Errorf("got %+v, want the controller's 0.6 among three", s)
		}
		if s := apply(t, c, override(0.1, time.Minute)); s.Scale != 0.1 {
			t.Errorf("got %v, want the operator's 0.1", s.Scale)
		}
		s, err := c.ClearOverride("ibkr", "ann", "done")
		if err != nil || s.Scale != 0.6 {
			t.Errorf("got %v and %v, want the controller's 0.6 again", s.Scale, err)
		}
		apply(t, c, override(0.1, time.Minute))
		time.Sleep(14 * time.Second)
		apply(t, c, lease("a", 2, 0.7))
		time.Sleep(14 * time.Second)
		apply(t, c, lease("a", 3, 0.7))
		time.Sleep(14 * time.Second)
		apply(t, c, lease("a", 4, 0.7))
		time.Sleep(14 * time.Second)
		apply(t, c, lease("a", 5, 0.7))
		time.Sleep(4 * time.Second)
		if s := state(t, c, "ibkr"); s.Scale != 0.7 {
			t.Errorf("got %v, want 0.7 once the override's minute is over", s.Scale)
		}
	})
}

func TestALeaseIsALock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, ibkr())
		before := apply(t, c, lease("a", 5, 0.6))
		for _, test := range []struct {
			name  string
			r     ScaleRequest
			stale bool
		}{
			{"another holder", lease("b", 99, 0.1), false},
			{"an older sequence of the same holder", lease("a", 4, 0.1), true},
			{"the same sequence with another content", lease("a", 5, 0.1), true},
		} {
			_, err := c.Apply("ibkr", test.r)
			var conflict *ConflictError
			if !errors.As(err, &conflict) || conflict.Holder != "a" || conflict.Stale != test.stale || conflict.ExpiresIn != 15*time.Second {
				t.Errorf("%s: got %v, want a conflict with a for 15 s", test.name, err)
			}
			if s := state(t, c, "ibkr"); s.Scale != 0.6 || s.Version != before.Version {
				t.Errorf("%s: the state changed", test.name)
			}
		}
		time.Sleep(10 * time.Second)
		if s := apply(t, c, lease("a", 5, 0.6)); *s.Scales[0].ExpiresInSeconds != 5 || s.Version != before.Version {
			t.Errorf("the same request twice gives %+v, want one change and no longer life", s)
		}
		time.Sleep(5 * time.Second)
		if s := apply(t, c, lease("b", 1, 0.2)); s.Scale != 0.2 {
			t.Errorf("got %v, want b to take over when a's lease ran out", s.Scale)
		}
		if _, err := c.Apply("ibkr", lease("a", 100, 1)); err == nil {
			t.Error("a woke and overwrote b")
		}
	})
}

func TestALateRequestChangesNothingThoughAnotherHeldTheLeaseBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, ibkr())
		apply(t, c, lease("a", 4, 0.9))
		apply(t, c, lease("a", 5, 0.3))
		time.Sleep(15 * time.Second)
		apply(t, c, lease("b", 1, 0.2))
		time.Sleep(15 * time.Second)
		before := state(t, c, "ibkr")
		if _, err := c.Apply("ibkr", lease("a", 4, 0.9)); err == nil {
			t.Error("an older sequence counts, because another holder was there since")
		}
		apply(t, c, lease("a", 5, 0.3)) // which it was told already
		if after := state(t, c, "ibkr"); after.Version != before.Version || after.Scale != 0.5 {
			t.Errorf("the state is %+v, want the fail mode as it was", after)
		}
		for i := range 2 * mostHolders { // of controllers with a new name at each start
			apply(t, c, lease(strings.Repeat("x", i+1), 1, 0.1))
			time.Sleep(15 * time.Second)
		}
		if n := len(c.gates.Load().find("ibkr").newest); n > mostHolders {
			t.Errorf("%d holders are remembered", n)
		}
	})
}

func TestALeaseThatRunsOutLeavesTheFailModeBehind(t *testing.T) {
	for _, test := range []struct {
		mode FailMode
		want float64
	}{{FailHold, 0.2}, {FailOpen, 1}, {FailSafe, 0.5}, {FailClosed, 0}} {
		t.Run(string(test.mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				c := New(WithLogger(logTo(&log)))
				defer c.Close()
				p := ibkr()
				p.FailMode = test.mode
				if err := c.Register(p); err != nil {
					t.Fatal(err)
				}
				apply(t, c, lease("a", 1, 0.2))
				time.Sleep(15 * time.Second) // nobody asks: the timer alone has to do it
				synctest.Wait()
				if !strings.Contains(log.String(), "lease ran out") {
					t.Error("nobody was told")
				}
				time.Sleep(time.Hour)
				s := state(t, c, "ibkr")
				if s.Scale != test.want || s.Scales[0].Reason != reasonLeaseExpired || s.Scales[0].ExpiresInSeconds != nil {
					t.Errorf("got %+v, want %v for as long as nobody decides", s.Scales, test.want)
				}
				if _, err := c.Apply("ibkr", lease("a", 1, 0.2)); err != nil {
					var conflict *ConflictError
					if !errors.As(err, &conflict) {
						t.Error(err)
					}
				}
				if s := apply(t, c, lease("b", 1, 0.9)); s.Scale != 0.9 {
					t.Errorf("got %v, want the next decision to count", s.Scale)
				}
			})
		})
	}
}

func TestARestartedProviderStaysInItsFailModeUntilTheFirstWord(t *testing.T) {
	p := ibkr()
	p.StartInFailMode = true
	words := map[string]func(*Coordinator){
		"a decision": func(c *Coordinator) { apply(t, c, lease("a", 1, 1)) },
		"an event":   func(c *Coordinator) { c.SetScale("ibkr", 1) },
	}
	for name, say := range words {
		c := started(t, p)
		if s := state(t, c, "ibkr"); s.Scale != 0.5 {
			t.Errorf("it came up at %v, want the safe scale", s.Scale)
		}
		apply(t, c, override(1, time.Minute))
		if s := state(t, c, "ibkr"); s.Scale != 0.5 {
			t.Errorf("an override opened it to %v", s.Scale)
		}
		say(c)
		if s := state(t, c, "ibkr"); s.Scale != 1 {
			t.Errorf("after %s it is at %v, want 1", name, s.Scale)
		}
	}
}

func TestABadRequestNamesItsFieldsAndChangesNothing(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*ScaleRequest)
		field string
	}{
		{"a scale that is no number", func(r *ScaleRequest) { r.Scale = math.NaN() }, "scale"},
		{"an infinite scale", func(r *ScaleRequest) { r.Scale = math.Inf(1) }, "scale"},
		{"an unknown level", func(r *ScaleRequest) { r.Level = 7 }, "level"},
		{"no holder", func(r *ScaleRequest) { r.Holder = "" }, "holder"},
		{"no sequence", func(r *ScaleRequest) { r.Sequence = 0 }, "sequence"},
		{"no life", func(r *ScaleRequest) { r.TTL = 0 }, "ttl"},
		{"too long a life", func(r *ScaleRequest) { r.TTL = 1000 * time.Hour }, "ttl"},
		{"a reason without end", func(r *ScaleRequest) { r.Reason = strings.Repeat("x", 2000) }, "reason"},
		{"nobody's", func(r *ScaleRequest) { r.Owner = "somebody" }, "owner"},
		{"an override without a reason", func(r *ScaleRequest) { r.Owner, r.Reason = OwnerOperator, "" }, "reason"},
	} {
		c := started(t, ibkr())
		before := state(t, c, "ibkr")
		r := lease("a", 1, 0.5)
		test.spoil(&r)
		_, err := c.Apply("ibkr", r)
		values := invalid.All(err)
		if len(values) == 0 || values[0].Field != test.field {
			t.Errorf("%s: got %v, want an error that names %s", test.name, err, test.field)
		}
		if after := state(t, c, "ibkr"); after.Version != before.Version || after.Scale != before.Scale {
			t.Errorf("%s: the state changed", test.name)
		}
	}
	c := started(t, ibkr())
	if _, err := c.Apply("nobody", lease("a", 1, 0.5)); !errors.Is(err, ErrUnknownProvider) {
		t.Errorf("got %v, want ErrUnknownProvider", err)
	}
	if s := apply(t, c, lease("a", 1, -4)); s.Scale != 0 {
		t.Errorf("got %v, want a negative scale clamped", s.Scale)
	}
}
