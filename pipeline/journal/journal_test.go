package journal_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/pipeline/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustOpen(t *testing.T, path string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestAJournalIsAppendedToFromRunToRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grants.csv")
	at := time.Unix(1760500000, 5)
	first := mustOpen(t, path)
	first.Rate(coordinator.Rate{At: at, Provider: "ibkr", PerSecond: 600, Burst: 200})
	first.Grant(coordinator.Grant{At: at, Provider: "ibkr", N: 3, Waited: 1500 * time.Millisecond, RatePerSecond: 0.5, Burst: 200})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := mustOpen(t, path)
	second.Grant(coordinator.Grant{At: at.Add(time.Second), Provider: "ibkr", N: 1, RatePerSecond: 600, Burst: 200})
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := journal.Header +
		"1760500000.000000005,rate,ibkr,0,0,600,200\n" +
		"1760500000.000000005,grant,ibkr,3,1.5,0.5,200\n" +
		"1760500001.000000005,grant,ibkr,1,0,600,200\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestEveryGrantAndRateOfACoordinatorIsInTheJournalInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grants.csv")
	j := mustOpen(t, path)
	c := coordinator.New(coordinator.WithGrantObserver(j.Grant), coordinator.WithRateObserver(j.Rate))
	defer c.Close()
	if err := c.Register(coordinator.Provider{Name: "ibkr", BasePerSecond: 1e9, Burst: 10}); err != nil {
		t.Fatal(err)
	}
	want := []string{"event n rate_per_second", fmt.Sprintf("rate 0 %v", 1e9)}
	const rounds = 2000 // more than fits what is written at once
	for i := range rounds {
		scale := 1 - float64(i%2)/2
		if i > 0 {
			c.SetScale("ibkr", scale)
			want = append(want, fmt.Sprintf("rate 0 %v", scale*1e9))
		}
		if err := c.Acquire(context.Background(), "ibkr", 1+i%10); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("grant %d %v", 1+i%10, scale*1e9))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, row := range rows {
		rate := row[5]
		if i > 0 {
			number, err := strconv.ParseFloat(rate, 64)
			if err != nil {
				t.Fatal(err)
			}
			rate = fmt.Sprint(number)
		}
		got = append(got, row[1]+" "+row[3]+" "+rate)
		if i > 1 && row[0] < rows[i-1][0] {
			t.Fatalf("row %d is %v after %v", i, row, rows[i-1])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAJournalThatCannotBeOpenedIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent", "grants.csv")
	if _, err := journal.Open(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want an error that names %s", err, path)
	}
}

func TestAFullDiskIsToldAtTheEnd(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("skipped: no /dev/full here")
	}
	j := mustOpen(t, "/dev/full")
	j.Rate(coordinator.Rate{At: time.Now(), Provider: "ibkr", PerSecond: 1, Burst: 1})
	if err := j.Close(); err == nil {
		t.Error("rows were lost without an error")
	}
}
