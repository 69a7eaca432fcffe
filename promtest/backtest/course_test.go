package backtest

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/promtest/simulate"
	"github.com/headgate/headgate/settings"
)

// asInTheRun sets what the controller of the recorded run was set to.
func asInTheRun(t *testing.T) {
	for name, value := range map[string]string{
		"HEADGATE_COORDINATOR_IDS": "bars", "HEADGATE_INTERVAL": "1s", "HEADGATE_LEASE": "5s", "HEADGATE_COOL_DOWN": "2s",
	} {
		t.Setenv(name, value)
	}
}

// results are those that the command writes as JSON.
func results(t *testing.T, c Command) []Result {
	t.Helper()
	var out bytes.Buffer
	c.Source, c.JSON, c.Floor = recordedFile, true, 1
	if err := c.Run(t.Context(), simulate.Streams{Out: &out, Err: t.Output()}); err != nil {
		t.Fatal(err)
	}
	var all []Result
	for d := json.NewDecoder(&out); d.More(); {
		var r Result
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// names are the levels of changes, one after another.
func names(changes []change) string {
	var all []string
	for _, c := range changes {
		name := "-"
		if c.Level != nil {
			name = c.Level.String()
		}
		all = append(all, name)
	}
	return strings.Join(all, " ")
}

func TestInAnOpenLoopItIsDecidedWhatWasReallyDecided(t *testing.T) {
	asInTheRun(t)
	all := results(t, Command{OpenLoop: true})
	really, decided := all[0], all[1]
	const want = "OK SOFT HARD SOFT HARD SOFT OK" // as the run told at its end
	if names(really.Levels) != want || names(decided.Levels) != want {
		t.Fatalf("the levels were %s, and are %s", names(really.Levels), names(decided.Levels))
	}
	// The real controller looked at other moments than each scrape's own.
	for i, c := range decided.Levels {
		if by := c.At.Sub(really.Levels[i].At).Abs(); by > 2*time.Second {
			t.Errorf("%s comes %v apart", c.Level, by)
		}
	}
	// It really began at half, before the first decision.
	if math.Abs(float64(really.MeanScale-decided.MeanScale)) > 0.02 || really.Turns != decided.Turns+1 {
		t.Errorf("the mean scale was %v with %d turns, and is %v with %d", really.MeanScale, really.Turns, decided.MeanScale, decided.Turns)
	}
}

func TestThePolicyThatReallyRanComesToWhatThereReallyWas(t *testing.T) {
	asInTheRun(t)
	all := results(t, Command{})
	really, computed := all[0], all[1]
	if names(really.Levels) != names(computed.Levels) {
		t.Errorf("the levels were %s, and are %s", names(really.Levels), names(computed.Levels))
	}
	for name, pair := range map[string][3]float64{
		"mean scale":             {float64(really.MeanScale), float64(computed.MeanScale), 0.1},
		"p99 wait":               {float64(really.P99Wait), float64(computed.P99Wait), 0.2},
		"depth":                  {float64(really.MaxDepth), float64(computed.MaxDepth), 0.1},
		"written":                {1, float64(computed.WrittenRatio), 0.02},
		"hours of OK":            {really.OKHours, computed.OKHours, 0.1},
		"the run's own p99 wait": {6.91, float64(really.P99Wait), 0.05},
	} {
		if was, is, within := pair[0], pair[1], pair[2]; math.Abs(is-was) > within*was {
			t.Errorf("%s was %v, and is %v", name, was, is)
		}
	}
}

func TestEveryPolicyIsAsGoodOnThePastAsItIsSimulated(t *testing.T) {
	asInTheRun(t)
	by := map[string]Result{}
	for _, r := range results(t, Command{Policy: "all"}) {
		by[r.Policy] = r
	}
	if len(by) != 6 {
		t.Fatalf("%d results", len(by))
	}
	drain, step := by["drain"], by["step"]
	if drain.P99Wait >= step.P99Wait || drain.MaxDepth >= step.MaxDepth || drain.WrittenRatio < step.WrittenRatio-0.01 {
		t.Errorf("drain comes to %+v, and step to %+v", drain, step)
	}
}

func TestALowerBoundOnTheStoreIsAnUpperOneOnTheWaits(t *testing.T) {
	asInTheRun(t)
	seen, busy := results(t, Command{IdleDrain: "seen", OpenLoop: true})[1], results(t, Command{OpenLoop: true})[1]
	if seen.P99Wait <= busy.P99Wait || seen.WrittenRatio >= busy.WrittenRatio || seen.UpperBoundHours == 0 {
		t.Errorf("as it was seen it comes to %+v, and as it was busy to %+v", seen, busy)
	}
}

// targetsOf are targets by the names of their coordinators, all of provider ibkr.
func targetsOf(t testing.TB, ids ...string) []settings.Target {
	t.Helper()
	var all []settings.Target
	for _, id := range ids {
		var target settings.Target
		if err := settings.Load(t.Context(), &target, settings.Environ([]string{"HEADGATE_COORDINATOR_IDS=" + id})); err != nil {
			t.Fatal(err)
		}
		all = append(all, target)
	}
	return all
}

func someCourse(t testing.TB, policy string, base float64, all []settings.Target) *course {
	t.Helper()
	c, err := newCourse(policy, controller.Config{
		Interval: 5 * time.Second, QueryTimeout: time.Second, ApplyTimeout: time.Second, Holder: "a", Decisions: 1,
	}, all, rates{base, 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// steady is what is seen of a coordinator again and again.
func steady(at time.Time, depth, arrivals, drain float64) (metrics.Observation, reading) {
	o := metrics.Observation{
		Depth: depth, Capacity: 10_000, HasLevel: true, At: at, Newest: at, Arrivals: rate(arrivals), Drain: rate(drain),
		Replicas: []metrics.Replica{{Instance: "p"}},
	}
	return o, read(metrics.Snapshot{Coordinators: map[string]metrics.Observation{"x": o}}, "x", 0)
}

// play lets a course see the same for some ticks of 5 s, and returns the last
// decisions.
func play(c *course, from time.Time, ticks int, depth, arrivals, drain float64) (decisions []*controller.Decision) {
	for i := range ticks {
		now := from.Add(time.Duration(i) * 5 * time.Second)
		before := now.Add(-5 * time.Second)
		if len(c.gates[0].streams[0].steps) == 0 {
			before = time.Time{}
		}
		snapshot, readings := metrics.Snapshot{ReadAt: now, Coordinators: map[string]metrics.Observation{}}, map[string]reading{}
		for id := range c.streams {
			snapshot.Coordinators[id], readings[id] = steady(now, depth, arrivals, drain)
		}
		seen := make([]sight, len(c.lines))
		for k := range seen {
			seen[k] = look(c.lines[k].target, readings, nil)
		}
		decisions = c.tick(context.Background(), before, now, snapshot, readings, seen)
	}
	return decisions
}

func TestDecisionsBearTheirOwnConsequences(t *testing.T) {
	start := time.Unix(1_760_000_000, 0)
	// The recorded queue is always full. By itself it would be empty soon.
	closed := someCourse(t, "step", 1000, targetsOf(t, "bars"))
	last := play(closed, start, 60, 9500, 100, 500)[0]
	if last.Depth > 1000 || last.Scale != 1 || *last.Level != pressure.OK {
		t.Errorf("after 5 minutes the depth is %v and the scale %v at %v", last.Depth, last.Scale, last.Level)
	}
	open := someCourse(t, "step", 1000, targetsOf(t, "bars"))
	open.openLoop = true
	last = play(open, start, 60, 9500, 100, 500)[0]
	if last.Depth != 9500 || last.Scale != 0 {
		t.Errorf("in an open loop the depth is %v and the scale %v", last.Depth, last.Scale)
	}
}

func TestTheCoordinatorsOwnLevelFollowsItsQueue(t *testing.T) {
	all := targetsOf(t, "bars")
	all[0].SoftEnter.Value, all[0].HardEnter.Value = 90, 95
	c := someCourse(t, "step", 10_000, all)
	// 6,000 items wait for good. The coordinator itself says SOFT above half.
	if last := play(c, time.Unix(1_760_000_000, 0), 20, 6000, 500, 500)[0]; last.ReportedLevel != pressure.Soft || *last.Level != pressure.Soft {
		t.Errorf("at %v items it says %v, and the level is %v", last.Depth, last.ReportedLevel, last.Level)
	}
}

func TestAProvidersRateIsSharedByTheQueuesThatItFeeds(t *testing.T) {
	start := time.Unix(1_760_000_000, 0)
	for name, ids := range map[string][]string{"of one target": {"a,b"}, "of two targets": {"a", "b"}} {
		c := someCourse(t, "step", 300, targetsOf(t, ids...))
		play(c, start, 21, 0, 400, 1000) // 800 a second arrive for 300
		came := c.streams["a"].queue.came + c.streams["b"].queue.came
		if want := 300 * 19 * 5.0; math.Abs(came-want) > 0.06*want || c.streams["a"].queue.came != c.streams["b"].queue.came {
			t.Errorf("%s: %v items came, want %v", name, came, want)
		}
	}
}

func TestAfterALongGapAQueueBeginsAnew(t *testing.T) {
	start := time.Unix(1_760_000_000, 0)
	for gap, anew := range map[time.Duration]bool{2 * time.Minute: false, 10 * time.Minute: true} {
		c := someCourse(t, "step", 1000, targetsOf(t, "bars"))
		play(c, start, 10, 0, 900, 400)
		before := c.streams["bars"].queue.depth
		ticks := int(gap / (5 * time.Second))
		play(c, start.Add(50*time.Second), ticks, math.NaN(), 0, 0)
		play(c, start.Add(50*time.Second+gap), 1, 77, 400, 400)
		if got := c.streams["bars"].queue.depth; (got == 77) != anew || !anew && got < before {
			t.Errorf("after %v the depth is %v, and was %v before", gap, got, before)
		}
	}
}

func TestWithoutABaseRateALawThatNeedsItIsBlind(t *testing.T) {
	c := someCourse(t, "drain", 0, targetsOf(t, "bars"))
	if last := play(c, time.Unix(1_760_000_000, 0), 5, 100, 400, 400)[0]; last.Fault != controller.FaultBaseUnknown {
		t.Errorf("got %s", last.Explanation)
	}
	c.gates[0].learn(1000, 2000)
	if last := play(c, time.Unix(1_760_000_025, 0), 5, 100, 400, 400)[0]; last.Reason != controller.ReasonLaw || last.BaseRate != 1000 || c.gates[0].allowed() > 2000 {
		t.Errorf("got %s", last.Explanation)
	}
}

// drawnTargets is targetsOf for bars alone, within a property.
func drawnTargets(t *rapid.T) []settings.Target {
	var target settings.Target
	if err := settings.Load(context.Background(), &target, settings.Environ([]string{"HEADGATE_COORDINATOR_IDS=bars"})); err != nil {
		t.Fatal(err)
	}
	return []settings.Target{target}
}

func TestACourseKeepsEveryItem(t *testing.T) {
	start := time.Unix(1_760_000_000, 0)
	rapid.Check(t, func(t *rapid.T) {
		law := rapid.SampledFrom([]string{"step", "linear", "exponential", "pid", "drain"}).Draw(t, "law")
		c, err := newCourse(law, controller.Config{Interval: 5 * time.Second, QueryTimeout: time.Second, ApplyTimeout: time.Second, Holder: "a", Decisions: 1},
			drawnTargets(t), rates{rapid.Float64Range(1, 5000).Draw(t, "base"), 1})
		if err != nil {
			t.Fatal(err)
		}
		arrived, begun := 0.0, -1.0
		now := start
		for range rapid.IntRange(1, 40).Draw(t, "ticks") {
			arrivals := rapid.Float64Range(0, 3000).Draw(t, "arrivals")
			depth := rapid.Float64Range(0, 10_000).Draw(t, "depth")
			last := play(c, now, 1, depth, arrivals, rapid.Float64Range(0, 3000).Draw(t, "drain"))[0]
			if scale := float64(last.Scale); last.Scale.Known() && !(scale >= 0 && scale <= 1) {
				t.Fatalf("scale is %v", scale)
			}
			if begun < 0 {
				begun = depth
			} else {
				arrived += 5 * arrivals
			}
			now = now.Add(5 * time.Second)
		}
		q := c.streams["bars"].queue
		if sum := q.held + q.depth + q.written + q.refused; math.Abs(sum-arrived-begun) > 1e-6*(1+arrived) {
			t.Fatalf("%v arrived, and %v are accounted for", arrived+begun, sum)
		}
	})
}

func TestAResultOfNothingHasNoFigures(t *testing.T) {
	r := &run{targets: targetsOf(t, "bars"), pasts: []*past{newPast()}, every: time.Second}
	r.courses = []*course{someCourse(t, "step", 0, r.targets)}
	var out bytes.Buffer
	if err := r.writeJSON(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"mean_scale":null`, `"overflow_items":null`, `"p99_wait_seconds":null`, `"max_depth":null`, `"written_ratio":null`} {
		if strings.Count(out.String(), want) != 2 {
			t.Errorf("%s is not there twice: %s", want, &out)
		}
	}
	var text bytes.Buffer
	if err := r.writeTable(&text); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(1, strings.Count(text.String(), "no series tells the base rate of provider ibkr; give --base-rate.")); diff != "" {
		t.Errorf("the note: %s in\n%s", diff, &text)
	}
}
