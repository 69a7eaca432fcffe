package targets_test

import (
	"context"
	"fmt"
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

func TestTargetsThatThrottleTheSameProviderFallToOneShard(t *testing.T) {
	const of = 7
	shardOf := func(variables ...string) int {
		all := map[string]string{"HEADGATE_COORDINATOR_IDS": "bars"}
		for i := 0; i < len(variables); i += 2 {
			all[variables[i]] = variables[i+1]
		}
		return targets.ShardOf(load(t, all), of)
	}
	const url = "HEADGATE_COORDINATOR_URL"
	if one, other := shardOf(), shardOf("HEADGATE_TARGET", "other", "HEADGATE_COORDINATOR_IDS", "ticks", "HEADGATE_ENABLED", "false"); one != other {
		t.Errorf("they fall to %d and %d", one, other)
	}
	if one, other := shardOf(url, "http://gate:9400"), shardOf(url, "http://gate:9400/"); one != other {
		t.Errorf("at the same address they fall to %d and %d", one, other)
	}
	// Which replicas series+http:// stands for is said by the coordinators.
	seen := map[int]bool{}
	for _, ids := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		seen[shardOf(url, "series+http://", "HEADGATE_COORDINATOR_IDS", ids)] = true
	}
	if len(seen) < 2 {
		t.Errorf("eight fleets fall all to %v", seen)
	}
}

func TestTheShardsTogetherHaveEachTargetOnce(t *testing.T) {
	var all []settings.Target
	for i := range 200 {
		all = append(all, load(t, map[string]string{
			"HEADGATE_COORDINATOR_IDS": fmt.Sprint(i), "HEADGATE_COORDINATOR_URL": fmt.Sprintf("http://gate-%d:9400", i%150),
		}))
	}
	times := map[string]int{}
	for index := range 5 {
		for _, one := range targets.Of(targets.Shard(settings.Sharding{Of: 5, Index: index}), all) {
			times[one.ID()]++
		}
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("%d shards have target %s", n, id)
		}
	}
	whole := targets.Of(targets.Shard(settings.Sharding{Of: 1, Index: -1}), all)
	if len(times) != len(all) || len(whole) != len(all) {
		t.Errorf("of %d targets the shards have %d, and the only one %d", len(all), len(times), len(whole))
	}
}
