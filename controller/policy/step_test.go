package policy_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

func TestStepGivesEachLevelItsScale(t *testing.T) {
	law, err := policy.NewStep(1, 0.5, 0)
	if err != nil {
		t.Fatal(err)
	}
	for level, want := range map[pressure.Level]float64{
		pressure.OK: 1, pressure.Soft: 0.5, pressure.Hard: 0, pressure.Level(7): 0,
	} {
		if got := law.Decide(policy.Input{Level: level}).Scale; got != want {
			t.Errorf("scale at %s is %v, want %v", level, got, want)
		}
	}
}

func TestStepRefusesScalesThatAreOutOfRangeOrOrder(t *testing.T) {
	tests := []struct {
		name           string
		ok, soft, hard float64
		fields         []string
	}{
		{"a scale above one", 1.5, 0.5, 0, []string{"scale_ok"}},
		{"a negative scale", 1, 0.5, -1, []string{"scale_hard"}},
		{"a scale that is no number", 1, math.NaN(), 0, []string{"scale_soft"}},
		{"SOFT more open than OK", 0.4, 0.5, 0, []string{"scale_soft"}},
		{"HARD more open than SOFT", 1, 0.2, 0.3, []string{"scale_hard"}},
		{"several at once", 2, -1, 3, []string{"scale_ok", "scale_soft", "scale_hard"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := policy.NewStep(test.ok, test.soft, test.hard)
			var fields []string
			for _, v := range invalid.All(err) {
				fields = append(fields, v.Field)
			}
			if diff := cmp.Diff(test.fields, fields); diff != "" {
				t.Errorf("refused fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTermsKeepTheirOrderAndCost(t *testing.T) {
	var terms policy.Terms
	for i := range 20 {
		terms.Add(fmt.Sprint(i), float64(i))
	}
	var got []float64
	for term := range terms.All() {
		got = append(got, term.Value)
	}
	if diff := cmp.Diff([]float64{0, 1, 2, 3, 4, 5, 6, 7}, got); diff != "" {
		t.Errorf("terms (-want +got):\n%s", diff)
	}
	law, _ := policy.NewStep(1, 0.5, 0)
	if n := testing.AllocsPerRun(100, func() { law.Decide(policy.Input{Level: pressure.Soft}) }); n != 0 {
		t.Errorf("a decision allocates %v times, want 0", n)
	}
}

func ExampleStep() {
	law, err := policy.NewStep(1, 0.5, 0)
	if err != nil {
		panic(err)
	}
	in := policy.Input{Level: pressure.Soft}
	out := law.Decide(in)
	fmt.Println(out.Scale)
	fmt.Println(law.Explain(in, out))
	// Output:
	// 0.5
	// the step law gives SOFT a scale of 0.5
}

func BenchmarkStep(b *testing.B) {
	law, _ := policy.NewStep(1, 0.5, 0)
	b.ReportAllocs()
	for b.Loop() {
		law.Decide(policy.Input{Level: pressure.Soft})
	}
}
