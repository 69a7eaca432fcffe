package policy_test

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/pressure"
)

// say lets a law decide on the inputs one after another, and returns what it
// says of the last decision.
func say(law policy.Law, inputs ...policy.Input) (string, policy.Output) {
	var out policy.Output
	for _, in := range inputs {
		out = law.Decide(in)
	}
	return law.(policy.Explainer).Explain(inputs[len(inputs)-1], out), out
}

// at is the usual input, changed.
func at(change func(*policy.Input)) policy.Input {
	in := usual()
	change(&in)
	return in
}

func TestEachLawSaysWhatItsScaleIsMadeOf(t *testing.T) {
	steady := usual()
	deep := at(func(in *policy.Input) { in.Depth, in.Level, in.Age = 6000, pressure.Soft, 500*time.Millisecond })
	empty := at(func(in *policy.Input) { in.Depth, in.InForce = 0, 0.5 })
	idle := at(func(in *policy.Input) {
		in.Depth, in.InForce, in.ArrivalsPerSecond, in.DrainPerSecond = 0, 0.5, 100, 100
	})
	tests := []struct {
		name, law string
		inputs    []policy.Input
		want      string
	}{
		{"step", policy.StepName, []policy.Input{deep}, "the step law gives SOFT a scale of 0.5"},

		{"linear, not above the SOFT mark", policy.LinearName, []policy.Input{steady},
			"the linear law gives a scale of 1 up to 5,000 items"},
		{"linear, between the marks", policy.LinearName, []policy.Input{deep},
			"that is 33.33 % of the way from 5,000 items, where the linear law gives a scale of 1, to 8,000, where it gives 0: a scale of 0.6667"},
		{"linear, at the HARD mark", policy.LinearName, []policy.Input{at(func(in *policy.Input) { in.Depth, in.Level = 8214, pressure.Hard })},
			"the linear law gives a scale of 0 from 8,000 items on"},
		{"linear, HARD by hysteresis", policy.LinearName, []policy.Input{at(func(in *policy.Input) { in.Depth, in.Level = 7500, pressure.Hard })},
			"the linear law gives a scale of 0 at HARD until the depth is below 7,000"},

		{"exponential, backing off at SOFT", policy.ExponentialName, []policy.Input{deep},
			"the exponential law multiplies by 0.9 in each dead time of 2 s at SOFT: 0.5 x 0.9^(1 s / 2 s) = a scale of 0.4743"},
		{"exponential, backing off at HARD", policy.ExponentialName, []policy.Input{at(func(in *policy.Input) { in.Level = pressure.Hard })},
			"the exponential law multiplies by 0.5 in each dead time of 2 s at HARD: 0.5 x 0.5^(1 s / 2 s) = a scale of 0.3536"},
		{"exponential, at its least", policy.ExponentialName,
			[]policy.Input{at(func(in *policy.Input) { in.Level, in.Elapsed, in.InForce = pressure.Hard, 4*time.Second, 0.02 })},
			"the exponential law multiplies by 0.5 in each dead time of 2 s at HARD: 0.02 x 0.5^(4 s / 2 s) = 0.005, so a scale of 0.01, the least"},
		{"exponential, recovering", policy.ExponentialName, []policy.Input{steady},
			"the exponential law adds 0.01/s at OK: 0.5 + 0.01/s x 1 s = a scale of 0.51"},
		{"exponential, open again", policy.ExponentialName, []policy.Input{at(func(in *policy.Input) { in.InForce = 0.995 })},
			"the exponential law adds 0.01/s at OK: 0.995 + 0.01/s x 1 s = 1.005, so a scale of 1, the most"},

		{"pid", policy.PIDName, []policy.Input{deep, deep},
			"the set point is 2,500, so the pid law gives -0.4375 in proportion (-3,500 items x 0.000125), 0.9102 by its integral and 0 by its derivative, together a scale of 0.4727"},
		{"pid, at the most", policy.PIDName, []policy.Input{at(func(in *policy.Input) { in.InForce = 1 }), at(func(in *policy.Input) { in.InForce, in.Depth = 1, 0 })},
			"the set point is 2,500, so the pid law gives 0.3125 in proportion (2,500 items x 0.000125), 0.832 by its integral and 0 by its derivative, together 1.1445, so a scale of 1, the most"},
		{"pid, without a base rate", policy.PIDName, []policy.Input{at(func(in *policy.Input) { in.BasePerSecond = math.NaN() })},
			"the pid law knows no base rate"},

		{"drain, emptying", policy.DrainName, []policy.Input{at(func(in *policy.Input) { in.Depth, in.Age, in.InForce = 1100, 0, 0.5 })},
			"drain 1,000/s; to empty from 1,100 predicted to 300 in 1 s the drain law asks for 200/s of 2,000/s: a scale of 0.1"},
		{"drain, with far too much to empty", policy.DrainName, []policy.Input{deep},
			"drain 1,000/s; to empty from 6,000 predicted to 300 in 1 s the drain law asks for -4,700/s of 2,000/s: -2.35, so a scale of 0, the least"},
		{"drain, filling", policy.DrainName, []policy.Input{steady, steady, at(func(in *policy.Input) { in.Depth, in.Age, in.DrainPerSecond, in.ArrivalsPerSecond = 100, 0, 800, 800 })},
			"drain 800/s counted as 998.7/s, which the store was seen to take; to fill from 100 predicted to 300 in 1 s the drain law asks for 1,199/s of 2,000/s: a scale of 0.5993"},
		{"drain, probing", policy.DrainName, []policy.Input{empty, empty},
			"the queue is empty and the provider uses up its 1,000/s, so the drain law gives it 50 % more, for the store may take it: of 2,000/s that is a scale of 0.75"},
		{"drain, with a provider that has little to send", policy.DrainName, []policy.Input{idle, idle},
			"the queue is empty and the provider does not use up its 1,000/s of 2,000/s, so the drain law leaves it: a scale of 0.5"},
		{"drain, before the dead time is known", policy.DrainName, []policy.Input{at(func(in *policy.Input) { in.DeadTime = 0 })},
			"the dead time is not known yet, so the drain law leaves the 1,000/s of 2,000/s: a scale of 0.5"},
		{"pid, before the dead time is known", policy.PIDName, []policy.Input{at(func(in *policy.Input) { in.DeadTime = 0 })},
			"the dead time is not known yet, so the pid law leaves a scale of 0.5"},
		{"drain, without a base rate", policy.DrainName, []policy.Input{at(func(in *policy.Input) { in.BasePerSecond = 0 })},
			"the drain law knows no base rate"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, _ := say(laws(t)[test.law](), test.inputs...)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("sentence (-want +got):\n%s", diff)
			}
		})
	}
}

// sums recompute a scale by hand from the figures of a law's sentence.
var sums = []struct {
	sentence *regexp.Regexp // the groups are the figures
	scale    func(f []float64) float64
}{
	{says(`gives (?:OK|SOFT|HARD) a scale of #$`), func(f []float64) float64 { return f[0] }},
	{says(`gives a scale of # (?:from|up to|at HARD until)`), func(f []float64) float64 { return f[0] }},
	{says(`is # % of the way from # items, where the linear law gives a scale of #, to #, where it gives #:`),
		func(f []float64) float64 { return f[2] + f[0]/100*(f[4]-f[2]) }},
	{says(`: # x #\^\(# s / # s\) =`), func(f []float64) float64 { return max(0.01, f[0]*math.Pow(f[1], f[2]/f[3])) }},
	{says(`: # \+ #/s x # s =`), func(f []float64) float64 { return max(0.01, min(1, f[0]+f[1]*f[2])) }},
	{says(`gives # in proportion(?: \(.*\))?, # by its integral and # by its derivative`),
		func(f []float64) float64 { return min(1, max(0, f[0]+f[1]+f[2])) }},
	{says(`drain (?:#/s counted as )?#/s(?:, .*)?; to (?:empty|fill) from # predicted to # in # s the drain law asks for #/s of #/s`),
		func(f []float64) float64 { return min(1, max(0, (f[1]+(f[3]-f[2])/f[4])/f[6])) }},
	{says(`uses up its #/s, so the drain law gives it # % more, .* of #/s`),
		func(f []float64) float64 { return min(1, f[0]*(1+f[1]/100)/f[2]) }},
	{says(`pid law leaves a scale of #`), func(f []float64) float64 { return f[0] }},
	{says(`(?:leaves the|use up its) #/s of #/s`), func(f []float64) float64 { return min(1, f[0]/f[1]) }},
}

// says is an expression in which # stands for a figure.
func says(sentence string) *regexp.Regexp {
	return regexp.MustCompile(strings.ReplaceAll(sentence, "#", `(-?[\d.,]*\d(?:e-?\d+)?)`))
}

// byHand recomputes the scale of a sentence.
func byHand(sentence string) (float64, bool) {
	for _, sum := range sums {
		if found := sum.sentence.FindStringSubmatch(sentence); found != nil {
			var figures []float64
			for _, text := range found[1:] {
				figure, _ := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
				figures = append(figures, figure)
			}
			return sum.scale(figures), true
		}
	}
	return 0, false
}

func TestTheScaleCanBeRecomputedFromTheSentence(t *testing.T) {
	for name, make := range laws(t) {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				law := make()
				base := rapid.Float64Range(10, 100_000).Draw(t, "base")
				var in policy.Input
				for range rapid.IntRange(1, 5).Draw(t, "decisions") {
					in = policy.Input{
						Elapsed:  time.Duration(rapid.IntRange(100, 10_000).Draw(t, "elapsed")) * time.Millisecond,
						Level:    pressure.Level(rapid.IntRange(0, 2).Draw(t, "level")),
						Depth:    math.Round(rapid.Float64Range(0, 10_000).Draw(t, "depth")),
						Capacity: 10_000, Thresholds: marks,
						ArrivalsPerSecond: rapid.Float64Range(0, base).Draw(t, "arrivals"),
						DrainPerSecond:    rapid.Float64Range(0, base).Draw(t, "drain"),
						BasePerSecond:     base, FloorPerSecond: 1,
						DeadTime: time.Duration(rapid.IntRange(0, 30_000).Draw(t, "dead time")) * time.Millisecond,
						Age:      time.Duration(rapid.IntRange(0, 15_000).Draw(t, "age")) * time.Millisecond,
						Fresh:    rapid.Bool().Draw(t, "fresh"), InForce: rapid.Float64Range(0, 1).Draw(t, "in force"),
					}
					sentence, out := say(law, in)
					got, told := byHand(sentence)
					if !told {
						t.Fatalf("no figures in %q", sentence)
					}
					// Rates and depths are told to three digits at least.
					rough := 0.002
					if name == policy.DrainName && in.DeadTime > 0 {
						horizon := max(out.Terms.Value("horizon_seconds"), 0.0005)
						rough += (1 + 0.001*math.Abs(out.Terms.Value("predicted_depth_items"))) / horizon / base
					}
					if math.Abs(got-out.Scale) > rough {
						t.Fatalf("by hand the scale of %q is %v, and the law gives %v", sentence, got, out.Scale)
					}
				}
			})
		})
	}
}
