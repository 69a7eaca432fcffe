package targets_test

import (
	"context"
	"testing"

	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/internal/targets"
	"github.com/headgate/headgate/settings"
)

func load(t *testing.T, variables map[string]string) settings.Target {
	t.Helper()
	var target settings.Target
	err := settings.Load(context.Background(), &target, func(name string) (string, bool) {
		value, found := variables[name]
		return value, found
	})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestEverySettingOfThePolicyMakesItsLaw(t *testing.T) {
	for _, name := range []string{policy.StepName, policy.LinearName, policy.ExponentialName, policy.PIDName, policy.DrainName} {
		target, err := targets.New(load(t, map[string]string{"HEADGATE_COORDINATOR_IDS": "bars", "HEADGATE_POLICY": name}), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p := target.Providers[0]; p.LawName != name || p.Law == nil {
			t.Errorf("%s made the law %q, %v", name, p.LawName, p.Law)
		}
	}
}

func TestTheCapAtHardIsTheHardScaleUnlessTheLawHoldsTheDepthItself(t *testing.T) {
	tests := []struct {
		name      string
		variables map[string]string
		want      float64
	}{
		{"step keeps to the HARD scale", map[string]string{"HEADGATE_POLICY": "step", "MDP_FB_SCALE_HARD": "0.2"}, 0.2},
		{"exponential keeps to the HARD scale", map[string]string{"HEADGATE_POLICY": "exponential"}, 0},
		{"drain has no cap", map[string]string{"HEADGATE_POLICY": "drain"}, 1},
		{"pid has no cap", map[string]string{"HEADGATE_POLICY": "pid"}, 1},
		{"a cap that is set holds for any law", map[string]string{"HEADGATE_POLICY": "drain", "HEADGATE_HARD_CAP": "0.3"}, 0.3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			target, err := targets.New(load(t, test.variables), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := target.Providers[0].Guard.HardCap; got != test.want {
				t.Errorf("the cap at HARD is %v, want %v", got, test.want)
			}
		})
	}
}
