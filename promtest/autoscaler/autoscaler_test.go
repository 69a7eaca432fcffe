package autoscaler

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/scaler"
)

// wants is an answer to metricType AverageValue of so many replicas.
func wants(n float64) Answer {
	return Answer{AverageValue: true, Answer: scaler.Answer{Value: &n, Active: n > 0, Autoscaler: scaler.Autoscaler{TargetValue: 1}}}
}

func failed() Answer { return Answer{AverageValue: true, Answer: scaler.Answer{Error: "stale"}} }

// sizes are those of a fleet that is told one answer after another, 15 s apart.
func sizes(f *Fleet, answers ...[]Answer) []int {
	var all []int
	for i, a := range answers {
		all = append(all, f.Sync(time.Unix(int64(i)*15, 0), a))
	}
	return all
}

// each makes single answers of wishes; a negative one is an error.
func each(wishes ...float64) [][]Answer {
	var all [][]Answer
	for _, w := range wishes {
		if w < 0 {
			all = append(all, []Answer{failed()})
			continue
		}
		all = append(all, []Answer{wants(w)})
	}
	return all
}

func repeat(n int, wish float64) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = wish
	}
	return all
}

func TestAFleetFollowsItsRules(t *testing.T) {
	standard := Config{Bounds: Bounds{1, 100}, Behaviour: DefaultBehaviour(), CoolDown: 5 * time.Minute}
	with := func(change func(*Config)) Config {
		c := standard
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		config Config
		start  int
		wishes []float64
		want   []int
	}{
		"it grows by four or twofold, whichever is more": {
			standard, 1, []float64{100, 100, 100, 100, 100}, []int{5, 10, 20, 40, 80},
		},
		"it does not leave its bounds": {
			with(func(c *Config) { c.Bounds = Bounds{2, 8} }), 1, []float64{100, 100, 100}, []int{2, 6, 8},
		},
		"ten percent more or less change nothing": {
			standard, 10, []float64{11, 9, 10.9, 11.1}, []int{10, 10, 10, 12},
		},
		"it shrinks to the most that was wanted in five minutes": {
			standard, 10, append(append([]float64{10, 4}, repeat(19, 2)...), 2, 2),
			[]int{10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 4, 2, 2},
		},
		"errors hold it": {
			standard, 10, []float64{-1, -1, 20, -1}, []int{10, 10, 20, 20},
		},
		"it grows no further than a window's least wish": {
			with(func(c *Config) { c.Behaviour.Up.Window = 30 * time.Second }), 2, []float64{2, 6, 6, 6}, []int{2, 2, 6, 6},
		},
		"two replicas in a minute": {
			with(func(c *Config) { c.Behaviour.Up.Policies = []Policy{{Value: 2, Period: time.Minute}} }),
			1, []float64{9, 9, 9, 9, 9}, []int{3, 3, 3, 3, 5},
		},
		"the lesser of two policies": {
			with(func(c *Config) { c.Behaviour.Up.Select = SelectMin }), 1, []float64{9, 9, 9}, []int{2, 4, 8},
		},
		"half at a time, rounded down": {
			with(func(c *Config) {
				c.Behaviour.Down = Rules{Select: SelectMax, Policies: []Policy{{Percent: true, Value: 50, Period: 15 * time.Second}}}
			}), 9, []float64{1, 1, 1, 1}, []int{4, 2, 1, 1},
		},
		"no way down": {
			with(func(c *Config) { c.Behaviour.Down = Rules{Select: SelectDisabled} }), 9, []float64{1, 12, 1}, []int{9, 12, 12},
		},
		"the lesser of two policies on the way down": {
			with(func(c *Config) {
				c.Behaviour.Down = Rules{Select: SelectMin, Policies: []Policy{{Value: 1, Period: 15 * time.Second}, {Value: 3, Period: 15 * time.Second}}}
			}), 9, []float64{1, 1}, []int{8, 7},
		},
		"KEDA switches it off after the cool-down, and on again": {
			with(func(c *Config) {
				c.Bounds.Min, c.CoolDown, c.Behaviour.Down.Window = 0, 30*time.Second, 0
			}), 3, []float64{2, 0, 0, 0, 0, 5, 5}, []int{2, 1, 0, 0, 0, 1, 5},
		},
		"an error does not switch it off": {
			with(func(c *Config) { c.Bounds.Min, c.CoolDown = 0, 30*time.Second }), 3, []float64{-1, -1, -1, -1, -1}, []int{3, 3, 3, 3, 3},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sizes(New(test.config, test.start), each(test.wishes...)...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOfSeveralTriggersTheLargestCounts(t *testing.T) {
	c := Config{Bounds: Bounds{1, 100}, Behaviour: DefaultBehaviour()}
	c.Behaviour.Down.Window = 0
	got := sizes(New(c, 4),
		[]Answer{wants(2), wants(6)},
		[]Answer{wants(2), failed()}, // fewer, as far as is known
		[]Answer{failed(), wants(9)},
		[]Answer{failed(), failed()},
		[]Answer{wants(2), wants(3)})
	if diff := cmp.Diff([]int{6, 6, 9, 9, 3}, got); diff != "" {
		t.Error(diff)
	}
}

func TestByValueTheReplicasThatWroteAreMultiplied(t *testing.T) {
	value := 1.5
	a := scaler.Answer{Value: &value, Replicas: 4, Autoscaler: scaler.Autoscaler{TargetValue: 1}}
	if got := Computed(a, false, 9); got != 6 {
		t.Errorf("got %d, want 4 x 1.5", got)
	}
	value = 1.05
	if got := Computed(a, false, 9); got != 4 {
		t.Errorf("got %d, want 4 for so small a difference", got)
	}
	if got := Computed(scaler.Answer{}, true, 9); got != 0 {
		t.Errorf("got %d without a value", got)
	}
}

func TestAFleetStaysWithinItsBoundsAndPolicies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Bounds{rapid.IntRange(1, 5).Draw(t, "min"), rapid.IntRange(5, 50).Draw(t, "max")}
		rules := func(name string) Rules {
			return Rules{
				Window:   time.Duration(rapid.IntRange(0, 300).Draw(t, name+" window")) * time.Second,
				Select:   rapid.SampledFrom([]Select{SelectMax, SelectMin, SelectDisabled}).Draw(t, name+" select"),
				Policies: []Policy{{Value: rapid.IntRange(1, 9).Draw(t, name), Period: time.Minute}},
			}
		}
		c := Config{Bounds: b, Behaviour: Behaviour{rules("up"), rules("down")}, CoolDown: time.Minute}
		f := New(c, rapid.IntRange(b.Min, b.Max).Draw(t, "start"))
		now := time.Unix(0, 0)
		history := []event{{now, f.replicas}} // of the last minute, and one more
		for range rapid.IntRange(1, 60).Draw(t, "syncs") {
			now = now.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "pause")) * time.Second)
			for len(history) > 1 && !history[1].at.After(now.Add(-time.Minute)) {
				history = history[1:]
			}
			low, high := math.MaxInt, 0
			for _, e := range history {
				low, high = min(low, e.n), max(high, e.n)
			}
			before, wish := f.replicas, rapid.Float64Range(-1, 200).Draw(t, "wish")
			got := f.Sync(now, each(wish)[0])
			up, down := c.Behaviour.Up, c.Behaviour.Down
			switch {
			case got < b.Min || got > b.Max:
				t.Fatalf("%d replicas, within %+v", got, b)
			case got > before && (up.Select == SelectDisabled || got > high+up.Policies[0].Value):
				t.Fatalf("from %d to %d by %+v", before, got, up)
			case got < before && (down.Select == SelectDisabled || got < low-down.Policies[0].Value):
				t.Fatalf("from %d to %d by %+v", before, got, down)
			}
			history = append(history, event{now, got})
		}
	})
}
