// Package contest lets laws run against each other on the plant: ours at their
// defaults, and every one of them at the best that a search over its settings
// finds.
package contest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/controller"
	"github.com/headgate/headgate/controller/policy"
	"github.com/headgate/headgate/internal/plant"
	"github.com/headgate/headgate/internal/plant/baseline"
	"github.com/headgate/headgate/pressure"
)

// Contender is a law by name, with its settings as they are by default and
// those that are tried in search of better ones.
type Contender struct {
	Name    string
	Default Variant
	Grid    []Variant // without the default
}

// Variant is a law with settings.
type Variant struct {
	Settings Settings
	Law      func() policy.Law // a new one with these settings

	// Marks are shares of the capacity at which SOFT and HARD begin and end.
	Marks Marks
	Guard controller.Guard
}

// Marks are shares of the capacity.
type Marks struct{ SoftEnter, SoftExit, HardEnter, HardExit float64 }

// usual are the marks of the product.
func usual() Marks { return Marks{0.5, 0.4, 0.8, 0.7} }

func (m Marks) thresholds(capacity float64) pressure.Thresholds {
	return pressure.Thresholds{
		SoftEnter: m.SoftEnter * capacity, SoftExit: m.SoftExit * capacity,
		HardEnter: m.HardEnter * capacity, HardExit: m.HardExit * capacity,
	}
}

// Settings are names and values, in order.
type Settings []Setting

// Setting is one of a law's settings.
type Setting struct {
	Name  string
	Value float64
}

func (s Settings) String() string {
	words := make([]string, len(s))
	for i, setting := range s {
		words[i] = fmt.Sprintf("%s=%g", setting.Name, setting.Value)
	}
	return strings.Join(words, " ")
}

// Run lets the variant control a scenario.
func (v Variant) Run(s plant.Scenario) plant.Figures {
	s.Thresholds, s.Guard = v.Marks.thresholds(s.Capacity), v.Guard
	return plant.Run(s, v.Law())
}

// MarshalJSON writes the settings as one object, in their order.
func (s Settings) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, setting := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%g", setting.Name, setting.Value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// axis is one setting with the values that are tried; the first is the default.
type axis struct {
	name   string
	values []float64
}

// contender makes a contender of all combinations of its axes.
func contender(name string, axes []axis, variant func(values []float64) Variant) Contender {
	c := Contender{Name: name}
	at := make([]int, len(axes))
	for {
		values := make([]float64, len(axes))
		settings := make(Settings, len(axes))
		for i, a := range axes {
			values[i] = a.values[at[i]]
			settings[i] = Setting{a.name, values[i]}
		}
		v := variant(values)
		v.Settings = settings
		if v.Marks == (Marks{}) {
			v.Marks = usual()
		}
		if v.Law != nil {
			c.Grid = append(c.Grid, v)
		}
		i := len(axes) - 1
		for ; i >= 0; i-- {
			if at[i]++; at[i] < len(axes[i].values) {
				break
			}
			at[i] = 0
		}
		if i < 0 {
			break
		}
	}
	c.Default, c.Grid = c.Grid[0], c.Grid[1:]
	return c
}

// law gives a variant's law; settings of the grid are in their ranges, so the
// constructors do not fail.
func law[L policy.Law](l L, err error) policy.Law {
	if err != nil {
		panic(fmt.Sprintf("contest: a setting of the grid is out of its range: %v", err))
	}
	return l
}

// Contenders returns all of them, ours first.
func Contenders() []Contender { return slices.Concat(Ours(), Baselines()) }

// uncapped lets a law decide by itself at HARD.
func uncapped() controller.Guard { return controller.Guard{HardCap: 1} }

// Ours are Headgate's laws.
func Ours() []Contender {
	return []Contender{
		contender(policy.DrainName, []axis{
			{"reference", []float64{policy.DefaultDrainTuning().Reference, 0.06, 0.12}},
			{"horizon", []float64{policy.DefaultDrainTuning().Horizon, 0.35, 0.8}},
			{"probe_growth", []float64{policy.DefaultDrainTuning().ProbeGrowth, 0.5, 2}},
		}, func(v []float64) Variant {
			return Variant{Guard: uncapped(), Law: func() policy.Law {
				t := policy.DefaultDrainTuning()
				t.Reference, t.Horizon, t.ProbeGrowth = v[0], v[1], v[2]
				return law(policy.NewTunedDrain(t))
			}}
		}),
		contender(policy.StepName, []axis{
			{"soft_enter", []float64{0.5, 0.1, 0.2, 0.3, 0.4}},
			{"band", []float64{0.1, 0.02, 0.05}},
			{"scale_soft", []float64{0.5, 0.2, 0.3, 0.4}},
			{"hard_enter", []float64{0.8, 0.3, 0.5}},
		}, func(v []float64) Variant {
			if v[3]-v[1] < v[0] {
				return Variant{}
			}
			return Variant{
				Marks: Marks{v[0], v[0] - v[1], v[3], v[3] - v[1]},
				Law:   func() policy.Law { return law(policy.NewStep(1, v[2], 0)) },
			}
		}),
		contender(policy.LinearName, []axis{
			{"soft_enter", []float64{0.5, 0, 0.1, 0.2, 0.3, 0.4}},
			{"hard_enter", []float64{0.8, 0.2, 0.3, 0.4, 0.5, 0.6, 1}},
		}, func(v []float64) Variant {
			if v[1]-0.05 < v[0] {
				return Variant{}
			}
			return Variant{
				Marks: Marks{v[0], v[0], v[1], v[1]}, Guard: uncapped(),
				Law: func() policy.Law { return law(policy.NewLinear(1, 0)) },
			}
		}),
		contender(policy.ExponentialName, []axis{
			{"soft_enter", []float64{0.5, 0.1, 0.2, 0.3}},
			{"backoff_soft", []float64{0.9, 0.5, 0.7, 0.8}},
			{"recovery_per_second", []float64{0.01, 0.003, 0.005, 0.02, 0.05}},
		}, func(v []float64) Variant {
			return Variant{
				Marks: Marks{v[0], v[0], 0.8, 0.7},
				Law: func() policy.Law {
					t := policy.DefaultExponentialTuning()
					t.Soft, t.RecoveryPerSecond = v[1], v[2]
					t.Hard = min(t.Hard, t.Soft)
					return law(policy.NewExponential(t))
				},
			}
		}),
		contender(policy.PIDName, []axis{
			{"pid_gain", []float64{0.5, 0.2, 0.3, 0.7, 1}},
			{"pid_integral_time", []float64{8, 4, 16, 32}},
			{"pid_derivative", []float64{0, 0.3}},
			{"pid_set_point", []float64{0.5, 0.1, 0.2, 0.4, 0.8}},
		}, func(v []float64) Variant {
			return Variant{Guard: uncapped(), Law: func() policy.Law {
				t := policy.DefaultPIDTuning()
				t.Gain, t.IntegralTime, t.Derivative, t.SetPoint = v[0], v[1], v[2], v[3]
				return law(policy.NewPID(t))
			}}
		}),
	}
}

// Baselines are what a user might take elsewhere.
func Baselines() []Contender {
	return []Contender{
		contender("none", nil, func([]float64) Variant {
			return Variant{Guard: uncapped(), Law: func() policy.Law { return baseline.Open{} }}
		}),
		contender("seed_step", []axis{
			{"soft_from", []float64{0.5, 0.1, 0.2, 0.3}},
			{"hard_from", []float64{0.8, 0.3, 0.5}},
			{"scale_soft", []float64{0.5, 0.2, 0.3, 0.4}},
		}, func(v []float64) Variant {
			if v[0] >= v[1] {
				return Variant{}
			}
			return Variant{Guard: uncapped(), Law: func() policy.Law {
				return &baseline.Seed{SoftFrom: v[0], HardFrom: v[1], Soft: v[2]}
			}}
		}),
		contender("rocksdb", []axis{
			{"slow_from", []float64{0.5, 0.05, 0.1, 0.2, 0.3}},
			{"stop_from", []float64{0.8, 0.4, 0.6, 0.95}},
			{"start_at", []float64{1, 0.3, 0.5, 0.7}},
		}, func(v []float64) Variant {
			if v[0] >= v[1] {
				return Variant{}
			}
			return Variant{Guard: uncapped(), Law: func() policy.Law {
				return &baseline.RocksDB{SlowFrom: v[0], StopFrom: v[1], StartAt: v[2]}
			}}
		}),
		contender("aimd", []axis{
			{"set_point", []float64{0.5, 0.05, 0.1, 0.2, 0.3}},
			{"slope", []float64{1, 0.25, 0.5}},
			{"increment", []float64{0.025, 0.01, 0.05, 0.1}},
			{"every_seconds", []float64{10, 1, 5, 20}},
		}, func(v []float64) Variant {
			return Variant{Guard: uncapped(), Law: func() policy.Law {
				return &baseline.AIMD{SetPoint: v[0], Slope: v[1], Least: 0.1, Increment: v[2], Every: time.Duration(v[3] * float64(time.Second))}
			}}
		}),
		contender("spark_pid", []axis{
			{"proportional", []float64{1, 0.3, 0.6}},
			{"integral", []float64{0.2, 0.02, 0.05, 0.1, 0.5}},
			{"derivative", []float64{0, 0.3}},
			{"least_per_second", []float64{100, 400}},
		}, func(v []float64) Variant {
			return Variant{Guard: uncapped(), Law: func() policy.Law {
				return &baseline.SparkPID{Proportional: v[0], Integral: v[1], Derivative: v[2], LeastPerSecond: v[3]}
			}}
		}),
		contender("gradient2", []axis{
			{"tolerance", []float64{1.5, 1.1, 2, 3}},
			{"smoothing", []float64{0.2, 0.5, 1}},
			{"allowance_per_second", []float64{4, 40, 100, 200}},
			{"window", []float64{600, 20, 100}},
		}, func(v []float64) Variant {
			return Variant{Guard: uncapped(), Law: func() policy.Law {
				return &baseline.Gradient2{Tolerance: v[0], Smoothing: v[1], Allowance: v[2], Window: v[3], Unloaded: 250 * time.Millisecond}
			}}
		}),
	}
}
