package settings

import (
	"strings"
	"testing"

	"github.com/headgate/headgate/internal/generated"
)

//go:generate go test -run TestTheDocsListTheSettings -update

var update = generated.Flag()

func TestTheDocsListTheSettings(t *testing.T) {
	var want strings.Builder
	for _, section := range Sections() {
		want.WriteString("\n### " + section.Title + "\n\n" + Markdown(section.Variables))
	}
	want.WriteString("\n")
	generated.Section(t, "../docs/settings.md", "settings", want.String(), *update)
}
