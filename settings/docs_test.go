package settings

import (
	"strings"
	"testing"

	"github.com/headgate/headgate/internal/generated"
)

//go:generate go test -run TestTheReadmeListsTheSettings -update

var update = generated.Flag()

func TestTheReadmeListsTheSettings(t *testing.T) {
	var want strings.Builder
	for _, section := range Sections() {
		want.WriteString("\n### " + section.Title + "\n\n" + Markdown(section.Variables))
	}
	want.WriteString("\n")
	generated.Section(t, "../README.md", "settings", want.String(), *update)
}
