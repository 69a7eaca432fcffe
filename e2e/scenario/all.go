package scenario

import "time"

// All lists every scenario in the order in which they begin, the long ones
// first. A storm lasts as long as is said.
func All(storm time.Duration) []Scenario {
	return []Scenario{
		External, SignalsLost, ScalerLost, Seed, Manifests, Push,
		StoreBoundDepth, StoreBoundDesired, StoreBoundDesiredStepBack, StoreBoundRelative, StoreBoundRelativeStepBack,
		WriterBoundDesired, WriterBoundRelative, MutualTLS, Spec, Explain, WrongKey, KedaClient, Docs, Many, Storm(storm),
	}
}
