package scenario

// All lists the scenarios.
func All() []Scenario {
	return []Scenario{
		External, SignalsLost, ScalerLost, Seed, Manifests, Push,
		StoreBoundDepth, StoreBoundDesired, StoreBoundDesiredStepBack, StoreBoundRelative, StoreBoundRelativeStepBack,
		WriterBoundDesired, WriterBoundRelative, MutualTLS, Spec, Explain, WrongKey, Many,
	}
}
