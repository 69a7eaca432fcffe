package main

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheRoundWithTheMedianRatioIsShown(t *testing.T) {
	rounds := [][]result{
		{{nsPerOp: 90}, {nsPerOp: 100}},
		{{nsPerOp: 900}, {nsPerOp: 100}}, // somebody else had the processor
		{{nsPerOp: 30}, {nsPerOp: 100}},
		{{nsPerOp: 80}, {nsPerOp: 200}},
		{{nsPerOp: 100}, {nsPerOp: 200}},
	}
	ours, peer := medianRound(rounds, 0, 1)
	if ours.nsPerOp != 100 || peer.nsPerOp != 200 {
		t.Errorf("got %v and %v, want 100 and 200", ours.nsPerOp, peer.nsPerOp)
	}
}

func TestARowSaysWhetherItsBarHolds(t *testing.T) {
	for _, test := range []struct {
		bar        bar
		ours, peer float64
		want       bool
	}{
		{atMost(0.4), 40, 100, true}, {atMost(0.4), 41, 100, false},
		{atLeast(3), 300, 100, true}, {atLeast(3), 299, 100, false},
		{exactly(1), 100, 100, true}, {exactly(1), 99, 100, false}, {none(), 1, 100, true},
		{below(1), 100, 100, false}, {below(1), 99, 100, true},
	} {
		if row := test.bar.against("row", "ns", "peer", test.ours, test.peer); row.Holds != test.want {
			t.Errorf("%v with %v to %v: holds is %v", test.bar, test.ours, test.peer, row.Holds)
		}
	}
}

func TestARowIsJSONWithFourDigits(t *testing.T) {
	row := atMost(0.4).against("acquire", "ns/op", "x/time/rate", 33.333333, 0)
	got, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"acquire","ours":33.33,"peer":0,"peer_name":"x/time/rate","unit":"ns/op","ratio":null,"bar":"\u003c= 0.4","holds":false}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestFiguresAreReadable(t *testing.T) {
	for figure, want := range map[Figure]string{
		0: "0", 0.12344: "0.1234", 999.96: "1,000", 1234567: "1,235,000", -12346: "-12,350", Figure(math.Inf(1)): "-",
	} {
		if got := figure.String(); got != want {
			t.Errorf("%v is shown as %s, want %s", float64(figure), got, want)
		}
	}
}

func TestTheWorstSecondIsFound(t *testing.T) {
	begin := time.Unix(0, 0)
	var times []time.Time
	for _, ms := range []int{0, 400, 999, 1000, 1399, 3000} {
		times = append(times, begin.Add(time.Duration(ms)*time.Millisecond))
	}
	if got := mostInASecond(times); got != 4 { // 400, 999, 1000 and 1399 ms
		t.Errorf("got %d, want 4", got)
	}
}

func TestGrowthIsNamed(t *testing.T) {
	sizes := []int{100, 1000, 10_000}
	for want, costs := range map[string][]float64{
		"growth from 100 to 10,000: linear (by a power of 1.00)":             {1, 10, 100},
		"growth from 100 to 10,000: flat (by a power of 0.00)":               {5, 5, 5},
		"growth from 100 to 10,000: slower than linear (by a power of 0.50)": {1, 3, 10},
		"growth from 100 to 10,000: faster than linear (by a power of 2.00)": {1, 100, 10_000},
	} {
		if got := growth(sizes, costs); got != want {
			t.Errorf("%v: got %q, want %q", costs, got, want)
		}
	}
}
