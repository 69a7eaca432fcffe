package trigger

import (
	"regexp"
	"strconv"
	"strings"
)

// Selector chooses coordinators by the labels of their series, with matchers
// as PromQL has them: env="prod",coordinator_id=~"bars-.*". All of them have
// to match; a label that is not there is empty. The empty selector chooses
// none.
type Selector struct {
	text     string
	matchers []matcher
}

type matcher struct {
	label   string
	negated bool
	value   string
	pattern *regexp.Regexp // nil for equality
}

var matcherForm = regexp.MustCompile(`^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")\s*(,|$)`)

const wantSelector = `label matchers such as env="prod",coordinator_id=~"bars-.*"`

// parseSelector reads a selector, with or without braces around it.
func parseSelector(text string) (Selector, bool) {
	s := Selector{text: text}
	rest := strings.TrimSpace(text)
	if inner, braced := strings.CutPrefix(rest, "{"); braced {
		if inner, braced = strings.CutSuffix(inner, "}"); !braced {
			return Selector{}, false
		}
		rest = strings.TrimSpace(inner)
	}
	for rest != "" {
		found := matcherForm.FindStringSubmatch(rest)
		if found == nil {
			return Selector{}, false
		}
		rest = strings.TrimSpace(rest[len(found[0]):])
		value, err := strconv.Unquote(found[3])
		if err != nil {
			return Selector{}, false
		}
		m := matcher{label: found[1], negated: found[2][0] == '!', value: value}
		if strings.HasSuffix(found[2], "~") {
			// By itself first: within the group a)(b would be one, too.
			if _, err = regexp.Compile(value); err == nil {
				m.pattern, err = regexp.Compile("^(?s:" + value + ")$")
			}
			if err != nil {
				return Selector{}, false
			}
		}
		s.matchers = append(s.matchers, m)
	}
	return s, len(s.matchers) > 0
}

// String is the selector as it was written.
func (s Selector) String() string { return s.text }

// IsZero reports whether there is no selector.
func (s Selector) IsZero() bool { return len(s.matchers) == 0 }

// Matches reports whether a coordinator with these labels is chosen.
func (s Selector) Matches(labels map[string]string) bool {
	for _, m := range s.matchers {
		value := labels[m.label]
		equal := value == m.value
		if m.pattern != nil {
			equal = m.pattern.MatchString(value)
		}
		if equal == m.negated {
			return false
		}
	}
	return len(s.matchers) > 0
}
