package settings

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/internal/invalid"
	"github.com/headgate/headgate/pressure"
)

// LoadController reads the controller's settings from the environment, given as
// os.Environ returns it, and its targets: those of the targets file, or else the
// one target that the environment describes. All that is wrong is reported at
// once, joined, as Load and Unknown report it; readFile reads the targets file.
func LoadController(ctx context.Context, environ []string, readFile func(string) ([]byte, error)) (Controller, []Target, error) {
	var c Controller
	lookup := Environ(environ)
	errs := []error{Unknown(environ), Load(ctx, &c, lookup)}
	errs = append(errs, c.Sharding.validate(wrongIn(errs[1])))
	path, _ := lookup("HEADGATE_TARGETS_FILE")
	if path == "" {
		errs = append(errs, c.Target.validate(environmentPrefix, c.Interval, wrongIn(errs[1])))
		return c, []Target{c.Target}, errors.Join(errs...)
	}
	data, err := readFile(path)
	if err != nil {
		errs = append(errs, invalid.New("HEADGATE_TARGETS_FILE", path, "a file that can be read: "+err.Error()))
		return c, nil, errors.Join(errs...)
	}
	targets, err := parseTargets(ctx, data, c.Target)
	err = errors.Join(err, validateAll(targets, c.Interval, wrongIn(errs[1])))
	for _, e := range invalid.All(err) {
		errs = append(errs, fmt.Errorf("%s: %w", path, e))
	}
	return c, targets, errors.Join(errs...)
}

// LoadControllerWith is LoadController with the targets of a list that stands
// in another file instead of the targets file: the value of its key "targets".
func LoadControllerWith(ctx context.Context, environ []string, list []yaml.Node) (Controller, []Target, error) {
	var c Controller
	lookup := Environ(environ)
	errs := []error{Unknown(environ), Load(ctx, &c, lookup)}
	errs = append(errs, c.Sharding.validate(wrongIn(errs[1])))
	targets, err := readTargets(ctx, list, c.Target)
	errs = append(errs, err, validateAll(targets, c.Interval, wrongIn(errs[1])))
	return c, targets, errors.Join(errs...)
}

// validateAll reports what the fields of each target say against each other.
func validateAll(targets []Target, interval time.Duration, wrong map[string]bool) error {
	var errs []error
	for i := range targets {
		errs = append(errs, targets[i].validate(fmt.Sprintf("target %q: ", targets[i].ID()), interval, wrong))
	}
	return errors.Join(errs...)
}

// Targets reads a targets file: a YAML mapping with the one key "targets", a
// list of mappings. The keys of each are the variables of Target in lower case
// without their prefix (soft_enter for HEADGATE_SOFT_ENTER, scale_soft for
// MDP_FB_SCALE_SOFT); what a target does not say, the environment does. All
// that is wrong is reported, joined, each as an *invalid.Value whose field
// names the line.
func Targets(ctx context.Context, data []byte, environment Lookup) ([]Target, error) {
	var base Target
	baseErr := Load(ctx, &base, environment)
	targets, err := parseTargets(ctx, data, base)
	return targets, errors.Join(baseErr, err)
}

// parseTargets is Targets with the environment's target in its place.
func parseTargets(ctx context.Context, data []byte, base Target) ([]Target, error) {
	var file struct {
		Targets []yaml.Node `yaml:"targets"`
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		return nil, invalid.New("targets file", err.Error(), `a YAML mapping with the key "targets", a list`)
	}
	return readTargets(ctx, file.Targets, base)
}

func readTargets(ctx context.Context, list []yaml.Node, base Target) ([]Target, error) {
	if len(list) == 0 {
		return nil, invalid.Missing("targets", "a list with at least one target")
	}
	reader := newTargetReader(base)
	var errs []error
	var targets []Target
	lineOf := map[string]int{}
	for i := range list {
		target, err := reader.read(ctx, &list[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		line := list[i].Line
		if first, twice := lineOf[target.ID()]; twice {
			errs = append(errs, invalid.New(fmt.Sprintf("line %d: target", line), target.ID(),
				fmt.Sprintf("a name of its own: line %d has it already", first)))
		}
		lineOf[target.ID()] = line
		targets = append(targets, target)
	}
	return targets, errors.Join(errs...)
}

// targetReader reads targets, each of which says something over what the base
// says. What is alike for all is worked out once, for there may be a great many.
type targetReader struct {
	base, now Target
	keys      map[string]leaf // of now, by the key in YAML
	names     []string        // of the keys, in their order
}

func newTargetReader(base Target) *targetReader {
	r := &targetReader{base: base, keys: map[string]leaf{}}
	for _, leaf := range leaves(reflect.ValueOf(&r.now).Elem(), 0) {
		key := leaf.name
		for _, prefix := range []string{"HEADGATE_", "MDP_FB_"} {
			key = strings.TrimPrefix(key, prefix)
		}
		key = strings.ToLower(key)
		r.keys[key] = leaf
		r.names = append(r.names, key)
	}
	return r
}

func (r *targetReader) read(ctx context.Context, node *yaml.Node) (Target, error) {
	if node.Kind != yaml.MappingNode {
		return Target{}, invalid.New(fmt.Sprintf("line %d: target", node.Line), node.Value, "a mapping of settings")
	}
	r.now = r.base
	said := map[string]bool{}
	var errs []error
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		field := fmt.Sprintf("line %d: %s", key.Line, key.Value)
		leaf, known := r.keys[key.Value]
		text, scalar := scalarText(value)
		switch {
		case !known:
			errs = append(errs, invalid.New(field, text, "one of the keys "+strings.Join(r.names, ", ")))
		case !scalar:
			errs = append(errs, invalid.New(field, "a mapping", "one value, or a list of them"))
		case said[key.Value]:
			errs = append(errs, invalid.New(field, text, "each key once"))
		default:
			said[key.Value] = true
			err := leaf.load(ctx, func(string) (string, bool) { return text, true })
			for _, v := range invalid.All(err) {
				v.Field = field
				errs = append(errs, v)
			}
		}
	}
	return r.now, errors.Join(errs...)
}

// scalarText is the text of a scalar, or that of a list of scalars joined by
// commas, as the environment would have it.
func scalarText(node *yaml.Node) (string, bool) {
	switch node.Kind {
	case yaml.ScalarNode:
		return node.Value, true
	case yaml.AliasNode:
		return scalarText(node.Alias)
	case yaml.SequenceNode:
		var parts []string
		for _, item := range node.Content {
			if item.Kind != yaml.ScalarNode {
				return "", false
			}
			parts = append(parts, item.Value)
		}
		return strings.Join(parts, ","), true
	}
	return "", false
}

// ID is the target's name, or that of its first coordinator.
func (t Target) ID() string {
	if t.Name != "" || len(t.CoordinatorIDs) == 0 {
		return t.Name
	}
	return t.CoordinatorIDs[0]
}

// Thresholds are the target's marks in items for a queue of that capacity,
// which is not looked at where all of them are in items.
func (t Target) Thresholds(capacity float64) pressure.Thresholds {
	return pressure.Thresholds{
		SoftEnter: t.SoftEnter.Items(capacity), SoftExit: t.SoftExit.Items(capacity),
		HardEnter: t.HardEnter.Items(capacity), HardExit: t.HardExit.Items(capacity),
		For: t.LevelFor, CoolDown: t.CoolDown,
	}
}

// NeedsCapacity reports whether any of the target's marks is a share of the
// capacity.
func (t Target) NeedsCapacity() bool {
	return t.SoftEnter.Percent || t.SoftExit.Percent || t.HardEnter.Percent || t.HardExit.Percent
}

// environmentPrefix stands before the variables of a target that comes from
// the environment alone.
const environmentPrefix = "HEADGATE_"

// validate reports what the fields say against each other, joined. Prefix
// stands before each field's name, which is a variable's where it is
// environmentPrefix and a key's elsewhere. Variables that are known to be wrong
// by themselves are not held against others.
func (t Target) validate(prefix string, interval time.Duration, wrong map[string]bool) error {
	var errs []error
	field := func(key string) string { return key }
	if prefix == environmentPrefix {
		field = func(key string) string { return environmentPrefix + strings.ToUpper(key) }
		prefix = ""
	}
	report := func(key string, got any, want string) {
		errs = append(errs, invalid.New(prefix+field(key), got, want))
	}
	isWrong := func(key string) bool { return wrong[environmentPrefix+strings.ToUpper(key)] }
	if len(t.CoordinatorIDs) == 0 && !isWrong("coordinator_ids") {
		report("coordinator_ids", "", "the name of at least one coordinator")
	}
	if t.Lease < 2*interval && !isWrong("lease") && !isWrong("interval") {
		report("lease", t.Lease, fmt.Sprintf("at least two intervals, which are %v", 2*interval))
	}
	capacityKnown := t.QueueCapacity > 0 || t.Series.Capacity != None
	if t.NeedsCapacity() && !capacityKnown {
		report("series_capacity", t.Series.Capacity,
			"the name of the capacity's series, or "+field("queue_capacity")+", or all marks in items: a mark in percent needs the capacity")
	}
	// Marks in different units can be compared only where the capacity is
	// given here; where it is a series, the controller compares them later.
	capacity := t.QueueCapacity
	if capacity == 0 {
		capacity = math.NaN()
	}
	ordered := func(lowKey string, low pressure.Mark, highKey string, high pressure.Mark) {
		a, b := low.Items(capacity), high.Items(capacity)
		if low.Percent == high.Percent {
			a, b = low.Value, high.Value
		}
		if a > b && !isWrong(lowKey) && !isWrong(highKey) {
			report(lowKey, low, fmt.Sprintf("at most %s, which is %v", field(highKey), high))
		}
	}
	ordered("soft_enter", t.SoftEnter, "hard_enter", t.HardEnter)
	ordered("soft_exit", t.SoftExit, "soft_enter", t.SoftEnter)
	ordered("hard_exit", t.HardExit, "hard_enter", t.HardEnter)
	ordered("soft_exit", t.SoftExit, "hard_exit", t.HardExit)
	if t.Law.BackoffHard > t.Law.BackoffSoft && !isWrong("backoff_hard") && !isWrong("backoff_soft") {
		report("backoff_hard", t.Law.BackoffHard, fmt.Sprintf("at most %s, which is %v", field("backoff_soft"), t.Law.BackoffSoft))
	}
	errs = append(errs, t.Scales.validate(wrong))
	return errors.Join(errs...)
}

// validate reports an index that is none of the shards.
func (s Sharding) validate(wrong map[string]bool) error {
	const index, of = "HEADGATE_SHARD", "HEADGATE_SHARDS"
	switch {
	case wrong[index] || wrong[of]:
		return nil
	case s.Index < 0 && s.Of > 1:
		return invalid.Missing(index, fmt.Sprintf("a whole number from 0 to %d, for %s is %d", s.Of-1, of, s.Of))
	case s.Index >= s.Of && s.Of == 1:
		return invalid.New(index, s.Index, "none, or 0, where "+of+" is 1")
	case s.Index >= s.Of:
		return invalid.New(index, s.Index, fmt.Sprintf("a whole number from 0 to %d, for %s is %d", s.Of-1, of, s.Of))
	}
	return nil
}

// wrongIn are the variables that an error of Load names.
func wrongIn(err error) map[string]bool {
	wrong := map[string]bool{}
	for _, v := range invalid.All(err) {
		wrong[v.Field] = true
	}
	return wrong
}

// None, as the name of a series, says that there is no such series.
const None = "none"

// validate reports scales that rise with the pressure.
func (s Scales) validate(wrong map[string]bool) error {
	var errs []error
	falls := func(low string, lowScale float64, high string, highScale float64) {
		if lowScale > highScale && !wrong[low] && !wrong[high] {
			errs = append(errs, invalid.New(low, lowScale, fmt.Sprintf("at most %s, which is %v", high, highScale)))
		}
	}
	falls("MDP_FB_SCALE_SOFT", s.Soft, "MDP_FB_SCALE_OK", s.OK)
	falls("MDP_FB_SCALE_HARD", s.Hard, "MDP_FB_SCALE_SOFT", s.Soft)
	return errors.Join(errs...)
}
