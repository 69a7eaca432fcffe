package journal_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/headgate/headgate/pipeline/journal"
)

func TestTheAuditFindsTheBusiestSecond(t *testing.T) {
	const header = "unix_seconds,event,provider,n,waited_seconds,rate_per_second,burst\n"
	for _, test := range []struct {
		name, rows string
		want       float64
	}{
		{"nothing was let in", "0,rate,ibkr,0,0,100,10\n", 0},
		{"the burst and the rate's second", "0,rate,ibkr,0,0,90,10\n1,grant,ibkr,10,0,90,10\n1.5,grant,ibkr,90,0,90,10\n", 1},
		{"a second later is another window", "0,rate,ibkr,0,0,90,10\n1,grant,ibkr,50,0,90,10\n2,grant,ibkr,100,0,90,10\n", 1},
		{"the rate fell within the second", "0,rate,ibkr,0,0,100,50\n1,grant,ibkr,100,0,100,50\n1.5,rate,ibkr,0,0,0,50\n", 1},
		{"too much", "0,rate,ibkr,0,0,90,10\n1,grant,ibkr,150,0,90,10\n", 1.5},
		{"killed while it wrote a row", "0,rate,ibkr,0,0,90,10\n1,grant,ibkr,100,0,90,10\n1.1,grant,ib", 1},
		{"each provider has its own budget", "0,rate,a,0,0,90,10\n0,rate,b,0,0,90,10\n1,grant,a,50,0,90,10\n1,grant,b,100,0,90,10\n", 1},
	} {
		path := filepath.Join(t.TempDir(), "grants.csv")
		if err := os.WriteFile(path, []byte(header+test.rows), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := journal.Read(path)
		if err != nil || math.Abs(got.Most-test.want) > 1e-9 || got.OverSeconds > 0 != (test.want > 1) {
			t.Errorf("%s: got %+v and %v, want %v", test.name, got, err, test.want)
		}
	}
}
