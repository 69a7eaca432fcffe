package metrics

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"github.com/headgate/headgate/internal/invalid"
)

// Names says under which names an exporter's series are scraped, so that a
// coordinator that has its own names is read without touching it. An empty
// name says that the exporter has no such series; only Depth is required.
type Names struct {
	Depth      string // gauge, items waiting
	Capacity   string // gauge, the most items that may wait
	Soft, Hard string // gauges, above 0 while the coordinator says so of itself
	Shared     string // gauge, above 0 where all replicas tell of one queue that they share
	Accepted   string // counter, items into the queue
	Written    string // counter, items out of the queue
	Dropped    string // counter, items lost

	CoordinatorLabel string // the label whose value names the coordinator
	Matchers         string // further label matchers of all series, such as `job="bars"`; may be empty
}

// DefaultNames are the names that Headgate's own coordinators export.
func DefaultNames() Names {
	return Names{
		Depth:            QueueDepth,
		Capacity:         QueueCapacity,
		Soft:             BackpressureSoft,
		Hard:             BackpressureHard,
		Shared:           QueueShared,
		Accepted:         ItemsAccepted,
		Written:          ItemsWritten,
		Dropped:          ItemsDropped,
		CoordinatorLabel: LabelCoordinatorID,
	}
}

// matcher is one PromQL label matcher at the beginning of a text, and the comma
// after it where there is one.
var matcher = regexp.MustCompile(`^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")\s*(,|$)`)

// areMatchers reports whether a text is nothing but label matchers, with commas
// between them, which Prometheus takes and which leave the series' names alone.
func areMatchers(text string) bool {
	if !utf8.ValidString(text) { // to unquote a value would mend it
		return false
	}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		found := matcher.FindStringSubmatch(text)
		if found == nil || found[1] == model.MetricNameLabel || found[1] == partLabel {
			return false
		}
		value, err := strconv.Unquote(found[3])
		if err != nil || !utf8.ValidString(value) {
			return false
		}
		if strings.HasSuffix(found[2], "~") {
			if _, err := regexp.Compile(value); err != nil {
				return false
			}
		}
		text = text[len(found[0]):]
	}
	return true
}

// Validate reports every name that no series or label can have, joined.
func (n Names) Validate() error {
	var errs []error
	if n.Depth == "" {
		errs = append(errs, invalid.Missing("depth", "the name of a gauge"))
	}
	seen := map[string]string{}
	for _, s := range n.signals() {
		if !model.LegacyValidation.IsValidMetricName(s.series) {
			errs = append(errs, invalid.New(s.field, s.series, "the name of a series"))
		}
		if other, twice := seen[s.series]; twice {
			errs = append(errs, invalid.New(s.field, s.series, "another series than "+other))
		}
		seen[s.series] = s.field
	}
	if !model.LegacyValidation.IsValidLabelName(n.CoordinatorLabel) || n.CoordinatorLabel == partLabel {
		errs = append(errs, invalid.New("coordinator_label", n.CoordinatorLabel, "the name of a label"))
	}
	if !areMatchers(n.Matchers) {
		errs = append(errs, invalid.New("matchers", n.Matchers, `label matchers such as job="bars", namespace=~"a|b", of other labels than __name__`))
	}
	return errors.Join(errs...)
}

// signal is what a series stands for.
type signal uint8

const (
	depth signal = iota
	capacity
	soft
	hard
	shared
	accepted
	written
	dropped
	numSignals
)

// timed reports whether the samples' own times are asked for: where the age
// or a difference over time is made of them.
func (s signal) timed() bool { return s == depth || s >= accepted }

// ofWhole reports whether the signal of a shared queue is the same whichever
// replica tells it.
func (s signal) ofWhole() bool { return s < shared }

// named is one series that the exporter has.
type named struct {
	signal signal
	field  string // of Names, as settings spell it
	series string
}

// signals are the series that the exporter has, depth first.
func (n Names) signals() []named {
	all := []named{
		{depth, "depth", n.Depth},
		{capacity, "capacity", n.Capacity},
		{soft, "soft", n.Soft},
		{hard, "hard", n.Hard},
		{shared, "shared", n.Shared},
		{accepted, "accepted", n.Accepted},
		{written, "written", n.Written},
		{dropped, "dropped", n.Dropped},
	}
	return slices.DeleteFunc(all, func(s named) bool { return s.series == "" })
}

// partLabel marks which part of the query a sample answers. Without it the
// set operators, which do not look at a series' name, would drop a timestamp
// beside its value, and one exporter's series beside another's.
const partLabel = "headgate_part"

// nowPart is the part that is always answered. Its sample has the evaluation's
// time also when nothing else is there.
const nowPart = "now"

// query is the one instant query for everything that all exporters have.
//
// Selectors of an instant query honour stale markers, so a replica that is
// scaled in vanishes at once. What dies without a marker stays for the
// look-back of five minutes; the samples' own times, which timestamp gives of
// a bare selector only, tell its age.
func query(all []Names) string {
	times, values := []string{mark("vector(0)", nowPart)}, []string{}
	for i, n := range all {
		var patterns []string
		for _, s := range n.signals() {
			patterns = append(patterns, regexp.QuoteMeta(s.series))
			if s.signal.timed() {
				times = append(times, mark("timestamp("+n.selector("=", s.series)+")", timePart(i, s.signal)))
			}
		}
		values = append(values, mark(n.selector("=~", strings.Join(patterns, "|")), strconv.Itoa(i)))
	}
	// Each "or" looks at all that stands before it, so what is most comes last.
	return strings.Join(append(times, values...), " or ")
}

func (n Names) selector(op, name string) string {
	inner := fmt.Sprintf("__name__%s%s", op, strconv.Quote(name))
	if more := strings.TrimSpace(n.Matchers); more != "" {
		inner += "," + strings.TrimSuffix(more, ",")
	}
	return "{" + inner + "}"
}

func mark(expr, part string) string {
	return fmt.Sprintf(`label_replace(%s,%q,%q,"","")`, expr, partLabel, part)
}

func timePart(names int, s signal) string { return fmt.Sprintf("%d:%d", names, s) }
