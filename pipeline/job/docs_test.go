package job_test

import (
	"testing"

	"github.com/headgate/headgate/internal/generated"
	"github.com/headgate/headgate/pipeline/job"
)

//go:generate go test -run TestTheDocsListTheKeys -update

var update = generated.Flag()

func TestTheDocsListTheKeys(t *testing.T) {
	generated.Section(t, "../../docs/job-file.md", "keys", "\n"+job.Markdown(), *update)
}
