package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headgate/headgate/coordinator"
)

// halfDeaf is a provider with two replicas, of which one does not answer.
type halfDeaf struct{ *gate }

func (h halfDeaf) Apply(ctx context.Context, provider string, l coordinator.ScaleRequest) (coordinator.State, error) {
	s, err := h.gate.Apply(ctx, provider, l)
	if err == nil {
		err = &PartialError{Of: 2, Failed: []error{fmt.Errorf("replica b: %w", context.DeadlineExceeded)}}
	}
	return s, err
}

func TestAReplicaThatCannotBeToldIsNamedAndTheScaleIsInForceOnTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := start(t, config(), newPrometheus(), nil, target(t, "bars", halfDeaf{newGate()}))
		defer stop()
		pass(time.Second)
		d := newest(t, c, "bars")
		if d.Outcome != OutcomeApplied || d.InForce != 1 || d.ApplyFault != ApplyTimeout {
			t.Errorf("outcome %s at %v with the fault %q, want it applied and the fault named", d.Outcome, d.InForce, d.ApplyFault)
		}
		want := "; applied and read back; without 1 of 2 replicas: replica b: context deadline exceeded"
		if !strings.HasSuffix(d.Explanation, want) {
			t.Errorf("explained as %q, want it to end with %q", d.Explanation, want)
		}
	})
}
