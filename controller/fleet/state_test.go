package fleet

import (
	"testing"

	"github.com/headgate/headgate/coordinator"
)

func TestReplicasThatDrawFromOneBudgetHaveItsRateOnce(t *testing.T) {
	at := func(state coordinator.SharedState, perSecond float64) coordinator.State {
		return coordinator.State{
			Provider: "ibkr", BasePerSecond: 1000, Burst: 100, Share: 0.25, EffectivePerSecond: perSecond, Scale: 1,
			Shared: &coordinator.Shared{State: state},
		}
	}
	s := together(map[string]coordinator.State{
		"a": at(coordinator.SharedConnected, 1000), "b": at(coordinator.SharedConnected, 1000),
	})
	if s.EffectivePerSecond != 1000 || s.Burst != 100 {
		t.Errorf("two that draw run at %v/s with a burst of %d, want 1000/s and 100", s.EffectivePerSecond, s.Burst)
	}
	s = together(map[string]coordinator.State{
		"a": at(coordinator.SharedConnected, 1000), "b": at(coordinator.SharedOwnShare, 250), "c": at(coordinator.SharedLost, 0),
	})
	if s.EffectivePerSecond != 1250 {
		t.Errorf("one that draws and one that has its own share run at %v/s, want 1250/s at most", s.EffectivePerSecond)
	}
}
