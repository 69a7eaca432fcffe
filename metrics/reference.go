package metrics

import (
	"fmt"
	"strings"
)

// Unit is what a series' value counts or measures. Where the name does not say
// it, the meaning does: a series whose help begins with 1 is a yes or no.
func (s Series) Unit() string {
	name := strings.TrimSuffix(s.Name, "_total")
	switch {
	case strings.HasSuffix(name, "_tokens_per_second"):
		return "tokens/s"
	case strings.HasSuffix(name, "_items_per_second"):
		return "items/s"
	case strings.HasSuffix(name, "_seconds"):
		return "seconds"
	case strings.HasPrefix(s.Help, "1 ") || strings.HasPrefix(s.Help, "1,") || s.Name == SharedConnected:
		return "0 or 1"
	case s.Name == ControllerLevel || s.Name == PressureState || s.Name == ProviderBreaker:
		return "0, 1 or 2"
	case s.Name == ProviderShare || s.Name == ScaleFactor || s.Name == OwnerScale ||
		s.Name == ControllerScaleWanted || s.Name == ControllerScaleAsked || s.Name == ControllerScaleInForce:
		return "0 to 1"
	case strings.Contains(name, "_items") || s.Name == QueueDepth || s.Name == QueueCapacity || s.Name == QueueMaxDepth:
		return "items"
	case strings.Contains(name, "_tokens_"):
		return "tokens"
	case s.Name == ScalerValue || s.Name == ScalerTarget:
		return "of the metric"
	}
	return "count"
}

// Markdown is the reference of all series, as tables.
func Markdown() string {
	var b strings.Builder
	for _, section := range Sections() {
		fmt.Fprintf(&b, "\n## %s\n\nExported by %s.\n\n", section.Title, listed(section.Binaries))
		b.WriteString("| series | type | labels | unit | meaning |\n|---|---|---|---|---|\n")
		for _, s := range section.Series {
			labels := make([]string, len(s.Labels))
			for i, l := range s.Labels {
				labels[i] = "`" + l + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.Name, s.Kind, strings.Join(labels, ", "), s.Unit(), strings.TrimSuffix(s.Help, "."))
		}
	}
	return b.String() + "\n"
}

// listed names binaries in a sentence.
func listed(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = "`" + n + "`"
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " and " + quoted[len(quoted)-1]
}
