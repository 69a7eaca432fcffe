package coordinator

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headgate/headgate/internal/invalid"
)

func TestEveryOverrideIsInTheAuditLogWithWhoWhenAndWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := New(WithLogger(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))))
		defer c.Close()
		if err := c.Register(ibkr()); err != nil {
			t.Fatal(err)
		}
		begin := time.Now().UTC()
		at := func(after time.Duration) string { return begin.Add(after).Format(time.RFC3339) }

		apply(t, c, ScaleRequest{Owner: OwnerOperator, Holder: "ann", Scale: 0.25, Reason: "loader runs", TTL: time.Minute})
		time.Sleep(10 * time.Second)
		apply(t, c, ScaleRequest{Owner: OwnerOperator, Holder: "bob", Scale: 0.5, Reason: "loader\nslows", TTL: time.Minute})
		time.Sleep(10 * time.Second)
		if _, err := c.ClearOverride("ibkr", "ann", "loader is done"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ClearOverride("ibkr", "ann", "there is none"); err != nil {
			t.Fatal(err)
		}
		apply(t, c, ScaleRequest{Owner: OwnerOperator, Holder: "ann", Scale: 0, Reason: "store is moved", TTL: time.Hour})
		time.Sleep(2 * time.Hour) // nobody asks for anything, and it ends all the same
		synctest.Wait()

		var got []map[string]any
		for line := range strings.Lines(log.String()) {
			var record map[string]any
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Fatal(err)
			}
			when, err := time.Parse(time.RFC3339, record["time"].(string))
			if err != nil {
				t.Fatal(err)
			}
			record["time"] = when.UTC().Format(time.RFC3339)
			got = append(got, record)
		}
		record := func(when time.Duration, action, holder, reason string, scale float64, setBy string, expires time.Duration, after, rate float64) map[string]any {
			return map[string]any{
				"time": at(when), "level": "WARN", "msg": "override " + action, "audit": "override", "action": action, "provider": "ibkr",
				"holder": holder, "reason": reason, "scale": scale, "set_by": setBy, "expires_at": at(expires),
				"scale_in_force": after, "rate_per_second": rate,
			}
		}
		want := []map[string]any{
			record(0, "set", "ann", "loader runs", 0.25, "ann", time.Minute, 0.25, 25),
			record(10*time.Second, "set", "bob", "loader\nslows", 0.5, "bob", 70*time.Second, 0.5, 50),
			record(20*time.Second, "cleared", "ann", "loader is done", 0.5, "bob", 70*time.Second, 1, 100),
			record(20*time.Second, "set", "ann", "store is moved", 0, "ann", time.Hour+20*time.Second, 0, 1),
			record(time.Hour+20*time.Second, "expired", "ann", "store is moved", 0, "ann", time.Hour+20*time.Second, 1, 100),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the audit log differs (-want +got):\n%s", diff)
		}
	})
}

func TestAnOverrideIsClearedBySomebodyWithANameAndAReasonThatFits(t *testing.T) {
	c := New()
	defer c.Close()
	if err := c.Register(ibkr()); err != nil {
		t.Fatal(err)
	}
	_, err := c.ClearOverride("ibkr", "", strings.Repeat("long", 257))
	var fields []string
	for _, v := range invalid.All(err) {
		fields = append(fields, v.Field)
	}
	if diff := cmp.Diff([]string{"holder", "reason"}, fields); diff != "" {
		t.Errorf("%v:\n%s", err, diff)
	}
}
