package coordinator

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headgate/headgate/pressure"
)

func TestASteadyDayIsALogLineAProviderAtMost(t *testing.T) {
	const tick = 5 * time.Second
	tests := []struct {
		name string
		at   func(c *Coordinator, provider string, tick int, r *rand.Rand)
		none bool // even in the first day
	}{
		{name: "the same scale is leased at each tick", at: func(c *Coordinator, provider string, tick int, _ *rand.Rand) {
			renew(c, provider, tick, 0.5, 1)
		}},
		{name: "a law follows a noisy store", at: func(c *Coordinator, provider string, tick int, r *rand.Rand) {
			renew(c, provider, tick, 0.3+0.4*r.Float64(), 1)
		}},
		{name: "a scale between all and nothing", at: func(c *Coordinator, provider string, tick int, _ *rand.Rand) {
			renew(c, provider, tick, float64(tick%2), 1)
		}},
		{name: "replicas share by demand", at: func(c *Coordinator, provider string, tick int, r *rand.Rand) {
			renew(c, provider, tick, 0.5, 0.2+0.6*r.Float64())
		}},
		{name: "the leases run out again and again", at: func(c *Coordinator, provider string, tick int, _ *rand.Rand) {
			if tick%6 == 0 {
				renew(c, provider, tick, 1, 1)
			}
		}},
		{name: "feedback is for nobody", at: func(c *Coordinator, _ string, _ int, _ *rand.Rand) {
			c.SetScale("nobody", 1)
		}},
		{name: "a level that is none", at: func(c *Coordinator, provider string, _ int, _ *rand.Rand) {
			c.SetPressure(provider, pressure.Level(7))
		}},
		{name: "a cool-down is begun anew all day", at: func(c *Coordinator, provider string, _ int, _ *rand.Rand) {
			c.CoolDown(provider, GlobalScope, time.Minute)
		}},
		{name: "a provider fails at each trial", at: func(c *Coordinator, provider string, _ int, _ *rand.Rand) {
			c.RecordFailure(provider)
		}},
		{name: "another controller is refused", at: func(c *Coordinator, provider string, tick int, _ *rand.Rand) {
			renew(c, provider, tick, 1, 1)
			_, _ = c.Apply(provider, ScaleRequest{Owner: OwnerController, Holder: "b", Sequence: uint64(tick + 1), TTL: time.Minute, Reason: "law"})
		}, none: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				c := New(WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
				defer c.Close()
				for i := range 3 {
					p := ibkr()
					p.Name = fmt.Sprint("provider-", i)
					if err := c.Register(p); err != nil {
						t.Fatal(err)
					}
				}
				random := rand.New(rand.NewPCG(1, 2))
				ticks := 0
				day := func() map[string]int {
					log.Reset()
					for range int(24 * time.Hour / tick) {
						for i := range 3 {
							test.at(c, fmt.Sprint("provider-", i), ticks, random)
						}
						ticks++
						time.Sleep(tick)
					}
					synctest.Wait()
					lines := map[string]int{}
					for line := range strings.Lines(log.String()) {
						_, of, _ := strings.Cut(line, "provider=")
						name, _, _ := strings.Cut(of, " ")
						_, message, _ := strings.Cut(line, "msg=")
						lines[name+": "+strings.Split(message, " provider=")[0]]++
					}
					return lines
				}
				if first := day(); (len(first) == 0) != test.none {
					t.Errorf("in the first day were logged: %v", first)
				}
				for what, lines := range day() {
					if lines > 1 {
						t.Errorf("%d lines in the second day of %s", lines, what)
					}
				}
			})
		})
	}
}

// renew renews the lease of the controller a.
func renew(c *Coordinator, provider string, tick int, scale, share float64) {
	_, err := c.Apply(provider, ScaleRequest{
		Owner: OwnerController, Holder: "a", Sequence: uint64(tick + 1), Scale: scale, Share: share, Level: pressure.Soft, Reason: "law", TTL: 15 * time.Second,
	})
	if err != nil {
		panic(err)
	}
}

func TestAScaleThatChangesWithTheLevelIsAlwaysLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		c := New(WithLogger(logTo(&log)))
		defer c.Close()
		if err := c.Register(ibkr()); err != nil {
			t.Fatal(err)
		}
		const changes = 100
		for i := range changes {
			_, err := c.Apply("ibkr", ScaleRequest{
				Owner: OwnerController, Holder: "a", Sequence: uint64(i + 1), Scale: []float64{0.5, 0.51}[i%2], Level: pressure.Level(i % 2),
				Reason: "law", TTL: 15 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if got := strings.Count(log.String(), "scale changed"); got != changes {
			t.Errorf("%d changes were logged, want %d", got, changes)
		}
	})
}

func TestTheLogSaysThatALeaseIsBackAfterItRanOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		c := New(WithLogger(logTo(&log)))
		defer c.Close()
		if err := c.Register(ibkr()); err != nil {
			t.Fatal(err)
		}
		renew(c, "ibkr", 1, 1, 1)
		time.Sleep(time.Minute)
		renew(c, "ibkr", 2, 1, 1)
		out, back := strings.Index(log.String(), "lease ran out"), strings.LastIndex(log.String(), "scale changed")
		if out < 0 || back < out {
			t.Errorf("the lease ran out and is back, and the log says:\n%s", log.String())
		}
	})
}
