package journal_test

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/pipeline/journal"
)

// book writes journals of those rows, and reads them together.
func book(t *testing.T, journals ...string) journal.Ledger {
	t.Helper()
	var paths []string
	for _, rows := range journals {
		path := filepath.Join(t.TempDir(), "grants.csv")
		if err := os.WriteFile(path, []byte(journal.Header+rows), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	l, err := journal.ReadAll("ibkr", paths...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// grant is a row.
func grant(at, n string) string { return at + ",grant,ibkr," + n + ",0,10,5\n" }

func TestALedgerHoldsTheJournalsOfAllInOrder(t *testing.T) {
	l := book(t,
		grant("100.5", "3")+"100.6,rate,ibkr,0,0,10,5\n"+"100.7,grant,bulk,9,0,10,5\n"+grant("102.0", "4")+"103.1,gra",
		grant("101.0", "5"))
	at := func(seconds float64) time.Time { return time.UnixMicro(int64(seconds * 1e6)) }
	if len(l) != 3 || l[1].N != 5 || !l[1].At.Equal(at(101)) {
		t.Fatalf("got %+v", l)
	}
	for _, test := range []struct {
		from, to float64
		want     int
	}{{100, 103, 12}, {100.5, 101, 3}, {100.6, 102, 5}, {102.1, 110, 0}} {
		if got := l.Between(at(test.from), at(test.to)); got != test.want {
			t.Errorf("from %v to %v: %d items, want %d", test.from, test.to, got, test.want)
		}
	}
}

func TestTheWorstSpanOfALedger(t *testing.T) {
	// Ten a second, and seven at once in the middle.
	var rows strings.Builder
	for _, at := range []string{"10.0", "10.1", "10.2", "10.3", "10.4", "10.5", "10.6", "10.7", "10.8", "10.9"} {
		rows.WriteString(grant(at, "1"))
	}
	l := book(t, rows.String(), grant("10.55", "7"))
	if most, from := l.MostIn(500 * time.Millisecond); most != 12 || from.UnixMilli() < 10_050 {
		t.Errorf("the most in half a second is %d from %v, want 12", most, from)
	}
	// From the beginning until 10.6 fourteen had passed, and six came in.
	if beyond, at := l.Beyond(10); math.Abs(beyond-8) > 1e-6 || at.UnixMilli() < 10_600 {
		t.Errorf("%v items beyond the rate at %v, want 8 from 10.6 on", beyond, at)
	}
	if beyond, _ := l.Beyond(1000); beyond != 7 {
		t.Errorf("beyond a high rate: %v, want the 7 that came at once", beyond)
	}
	if none, _ := (journal.Ledger{}).Beyond(10); none != 0 {
		t.Errorf("beyond by %v where nothing passed", none)
	}
}
