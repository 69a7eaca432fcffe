package trigger

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/metrics"
	"github.com/headgate/headgate/scaler/replicas"
)

// guides are the pages that show metadata to users.
var guides = []string{"../../deploy/keda/README.md", "../../docs/keda.md"}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// row is a key as the guide's table has it.
type row struct{ Key, Metrics, Want string }

// table returns the rows of the guide's table of keys, and what it says of each
// key's default.
func table(t *testing.T) (rows []row, defaults map[string]string) {
	t.Helper()
	_, text, begun := strings.Cut(read(t, guides[0]), "<!-- metadata: begin")
	text, _, ended := strings.Cut(text, "<!-- metadata: end")
	if !begun || !ended {
		t.Fatal("the table of keys is not marked")
	}
	defaults = map[string]string{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if key, is := strings.CutPrefix(cells[0], "| `"); is {
			if len(cells) != 5 {
				t.Fatalf("the line has %d cells, want 5: %s", len(cells), line)
			}
			key = strings.TrimSuffix(key, "`")
			rows = append(rows, row{key, cells[1], cells[2]})
			defaults[key] = cells[3]
		}
	}
	return rows, defaults
}

func TestTheGuideHasEveryKeyAndNoOther(t *testing.T) {
	var want []row
	for _, k := range keys() {
		var metrics []string
		for _, kind := range Kinds() {
			if k.suits(kind) {
				metrics = append(metrics, "`"+string(kind.Metric)+"`")
			}
		}
		r := row{k.name, strings.Join(metrics, ", "), k.want}
		if len(metrics) == len(Kinds()) {
			r.Metrics = "all"
		}
		want = append(want, r)
	}
	got, _ := table(t)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-keys +guide\n%s", diff)
	}
}

func TestTheGuideHasTheDefaults(t *testing.T) {
	_, defaults := table(t)
	for _, k := range keys() {
		switch said := defaults[k.name]; {
		case k.name == keyCoordinators || k.name == keySelector:
			if said != "none" {
				t.Errorf("%s has the default %q, want none", k.name, said)
			}
		case strings.HasPrefix(said, "of the metric"), strings.HasPrefix(said, "`HEADGATE_"):
		default:
			for _, kind := range Kinds() {
				if !k.suits(kind) {
					continue
				}
				without := fresh(kind)
				with := without
				if !k.set(&with, said) {
					t.Errorf("%s: the default %q is refused, want %s", k.name, said, k.want)
				}
				if diff := cmp.Diff(without, with, cmp.AllowUnexported(Selector{})); diff != "" && k.name != keyMetric {
					t.Errorf("%s: %q is not the default of %s: -default +guide\n%s", k.name, said, kind.Metric, diff)
				}
			}
		}
	}
	if kind, _ := QueueDepth.Kind(); defaults[keyMetric] != string(kind.Metric) {
		t.Errorf("the default metric is %q, want %s", defaults[keyMetric], kind.Metric)
	}
}

func TestTheGuideHasTheMetricsWithTheirTargets(t *testing.T) {
	guide := read(t, guides[0])
	for _, kind := range Kinds() {
		line := ""
		for l := range strings.Lines(guide) {
			if strings.HasPrefix(l, "| `"+string(kind.Metric)+"` | ") {
				line = l
			}
		}
		cells := strings.Split(line, " | ")
		if len(cells) != 4 {
			t.Errorf("%s has no line of its own", kind.Metric)
			continue
		}
		if want := "`" + string(kind.Type) + "`"; cells[2] != want {
			t.Errorf("%s has the metricType %s, want %s", kind.Metric, cells[2], want)
		}
		target, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(cells[3]), " |"), ":")
		shown := fresh(kind)
		if i := slices.IndexFunc(keys(), func(k key) bool { return k.name == "targetValue" }); !keys()[i].set(&shown, target) || shown.Target != kind.Target {
			t.Errorf("%s has the target %q, want %v", kind.Metric, target, kind.Target)
		}
	}
}

// examples calls use with each YAML document in a page, or in a file.
func examples(t *testing.T, file string, use func(document any)) {
	t.Helper()
	text := read(t, file)
	texts := []string{text}
	if filepath.Ext(file) == ".md" {
		texts = nil
		for _, block := range strings.Split(text, "```yaml\n")[1:] {
			block, _, _ = strings.Cut(block, "```")
			texts = append(texts, block)
		}
	}
	for _, text := range texts {
		for decoder := yaml.NewDecoder(bytes.NewReader([]byte(text))); ; {
			var document any
			err := decoder.Decode(&document)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%s: %v in\n%s", file, err, text)
				break
			}
			use(document)
		}
	}
}

// triggers calls use with the metadata of each of our triggers in a document.
func triggers(document any, use func(metadata map[string]string)) {
	switch node := document.(type) {
	case []any:
		for _, n := range node {
			triggers(n, use)
		}
	case map[string]any:
		kind, _ := node["type"].(string)
		if values, has := node["metadata"].(map[string]any); has && strings.HasPrefix(kind, "external") {
			metadata := map[string]string{}
			for name, value := range values {
				text, is := value.(string)
				if !is {
					text = "\x00 no string" // KEDA takes nothing else
				}
				metadata[name] = text
			}
			use(metadata)
		}
		for _, n := range node {
			triggers(n, use)
		}
	}
}

func TestEveryTriggerThatUsersAreShownIsRight(t *testing.T) {
	shipped, err := filepath.Glob("../../deploy/keda/overlays/*/scaled-object.yaml")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range append(shipped, guides...) {
		examples(t, file, func(document any) {
			triggers(document, func(metadata map[string]string) {
				seen++
				if _, err := Parse(metadata, Defaults{}, "headgate/pipeline"); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			})
		})
	}
	if seen < 7 {
		t.Errorf("only %d triggers were found", seen)
	}
}

func TestEveryDefaultsFileThatUsersAreShownIsRight(t *testing.T) {
	seen := 0
	for _, file := range append(slices.Clone(guides), "../../deploy/keda/base/defaults.yaml") {
		examples(t, file, func(document any) {
			node, is := document.(map[string]any)
			if _, has := node["scaledObjects"]; !is || !has {
				return
			}
			seen++
			data, err := yaml.Marshal(node)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseDefaults(data); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		})
	}
	if seen < 2 {
		t.Errorf("%d defaults files were found, want those of the guide and of the base", seen)
	}
}

func TestTheChartTakesTheDefaultsThatTheScalerTakes(t *testing.T) {
	type names struct {
		PropertyNames struct{ Enum []string }
	}
	var schema struct {
		Defs struct {
			TriggerDefaults names `json:"triggerDefaults"`
		} `json:"$defs"`
		Properties struct {
			ExternalScaler struct {
				Properties struct {
					Defaults struct{ Properties struct{ Metrics names } }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(read(t, "../../deploy/helm/headgate/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(metricNames(), schema.Properties.ExternalScaler.Properties.Defaults.Properties.Metrics.PropertyNames.Enum); diff != "" {
		t.Errorf("-metrics +schema\n%s", diff)
	}
	keys := slices.DeleteFunc(keyNames(Kinds()...), func(name string) bool {
		return name == keyCoordinators || name == keySelector || name == keyMetric
	})
	if diff := cmp.Diff(keys, schema.Defs.TriggerDefaults.PropertyNames.Enum); diff != "" {
		t.Errorf("-keys +schema\n%s", diff)
	}
}

func TestTheGuideHasEveryGuard(t *testing.T) {
	_, text, found := strings.Cut(read(t, guides[1]), "## Guards")
	text, _, ended := strings.Cut(text, "\n## ")
	if !found || !ended {
		t.Fatal("there is no section on guards")
	}
	var got []string
	for line := range strings.Lines(text) {
		if cell, _, is := strings.Cut(strings.TrimPrefix(line, "| "), " | "); is && strings.HasPrefix(cell, "`") {
			for name := range strings.SplitSeq(cell, ", ") {
				got = append(got, strings.Trim(name, "`"))
			}
		}
	}
	var want []string
	for _, cause := range replicas.Causes() {
		want = append(want, string(cause))
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
		t.Errorf("-guards +guide\n%s", diff)
	}
}

func TestEverySeriesThatTheGuidesNameIsExported(t *testing.T) {
	exported := map[string]bool{}
	for _, series := range metrics.Catalog() {
		exported[series.Name] = true
	}
	name := regexp.MustCompile(`headgate_scaler_[a-z_]+`)
	for _, file := range guides {
		named := name.FindAllString(read(t, file), -1)
		if len(named) == 0 {
			t.Errorf("%s names no series", file)
		}
		for _, n := range named {
			if !exported[n] {
				t.Errorf("%s names %s, which is not exported", file, n)
			}
		}
	}
}
