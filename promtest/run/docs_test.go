package run

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// blocks are what stands between fences in the documentation, by the words
// after the opening fence, in their order.
func blocks(t *testing.T) map[string][]string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/promtest.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	parts := strings.Split(string(doc), "```")
	for i := 1; i < len(parts); i += 2 {
		language, text, _ := strings.Cut(parts[i], "\n")
		all[language] = append(all[language], text)
	}
	return all
}

func TestTheExampleOfTheHelpPasses(t *testing.T) {
	_, example, _ := strings.Cut(Command{}.Help(), "\n\n")
	example, _, _ = strings.Cut(example, "\n\n")
	file := filepath.Join(t.TempDir(), "f.yml")
	if err := os.WriteFile(file, []byte(example), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := execute(t, Command{Files: []string{file}}); err != nil || !strings.Contains(got, "  ok    unnamed#0\n") {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestTheDocumentationShowsWhatHappens(t *testing.T) {
	shown := blocks(t)
	example := shown["yaml bars.yml"][0]
	t.Chdir(t.TempDir())
	for _, test := range []struct {
		name, want string
		change     *strings.Replacer
		err        error
	}{
		{"as it stands", shown[""][0], strings.NewReplacer(), nil},
		{"with another threshold", shown[""][1], strings.NewReplacer("SOFT_ENTER: 50%", "SOFT_ENTER: 70%"), ErrFailed},
		{"with slips of the pen", shown[""][2], strings.NewReplacer("SOFT_ENTER", "SOFT_ENTRE", "exp_level: ok\n        exp_scale: 1\n      - eval_time: 30s", "exp_level: okay\n        exp_scale: 1\n      - eval_time: 30s"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := os.WriteFile("bars.yml", []byte(test.change.Replace(example)), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := execute(t, Command{Files: []string{"bars.yml"}})
			if got == "" {
				got = "promtest: " + err.Error() + "\n"
			} else if !errors.Is(err, test.err) {
				t.Errorf("got the error %v, want %v", err, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
