package synthetic_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/pipeline/source/replay"
	"github.com/headgate/headgate/pipeline/source/synthetic"
)

var update = flag.Bool("update", false, "write deploy/examples/market-open.csv anew")

// perSecond sums up the bins of each second.
func perSecond(bins []replay.Slot) []int {
	sums := make([]int, (len(bins)+9)/10)
	for i, bin := range bins {
		sums[i/10] += bin.Count
	}
	return sums
}

func TestAnOpeningHasAQuietTimeTwoStepsStormsAndAPlateau(t *testing.T) {
	for seed := range int64(20) {
		p := synthetic.Profile{Seed: seed, Scale: 1, OpensAfter: 10 * time.Second}
		bins := slices.Collect(p.Slots(70 * time.Second))
		seconds := perSecond(bins)
		within := func(what string, got, low, high int) {
			t.Helper()
			if got < low || got > high {
				t.Errorf("seed %d: %s is %d items, want %d to %d", seed, what, got, low, high)
			}
		}
		quiet := 0
		for _, n := range seconds[:10] {
			quiet += n
		}
		within("the quiet time", quiet, 60, 140) // 100 in all, six standard deviations are 60
		within("the first step", seconds[10], 280, 480)
		within("the second step", seconds[11], 680, 980)
		storms := 0
		for _, bin := range bins {
			if bin.Count >= 1000 {
				storms++
			}
		}
		within("the number of storms", storms, 4, 4)
		for _, n := range seconds[40:] {
			within("a second of the plateau", n, 150, 350)
		}
	}
}

func TestEqualProfilesAreEqualAndOthersDiffer(t *testing.T) {
	one := synthetic.Profile{Seed: 1, Scale: 2, OpensAfter: time.Second}
	again := slices.Collect(one.Slots(40 * time.Second))
	if diff := cmp.Diff(slices.Collect(one.Slots(40*time.Second)), again); diff != "" {
		t.Error(diff)
	}
	two := one
	two.Seed = 2
	if cmp.Equal(slices.Collect(two.Slots(40*time.Second)), again) {
		t.Error("two seeds gave the same items")
	}
	if diff := cmp.Diff(again[:100], slices.Collect(one.Slots(10*time.Second))); diff != "" {
		t.Error("a shorter run is not the beginning of a longer one:", diff)
	}
}

func TestTheScaleMultipliesAllRates(t *testing.T) {
	total := func(scale float64) (n int) {
		for bin := range (synthetic.Profile{Seed: 3, Scale: scale}).Slots(time.Minute) {
			n += bin.Count
		}
		return n
	}
	if small, large := total(1), total(10); large < 9*small || large > 11*small {
		t.Errorf("%d items at scale 1 and %d at 10", small, large)
	}
}

func TestTheExampleRecordingIsThisProfile(t *testing.T) {
	const path = "../../../deploy/examples/market-open.csv"
	var want bytes.Buffer
	want.WriteString("t_seconds,value\n")
	for bin := range (synthetic.Profile{Seed: 1, Scale: 1, OpensAfter: 5 * time.Second}).Slots(90 * time.Second) {
		fmt.Fprintf(&want, "%g,%d\n", bin.At.Seconds(), bin.Count)
	}
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("run the test with -update: %s", diff)
	}
}
