package check

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// command finds the commands of a page that need no cluster. Those that do are
// marked "sh cluster".
var command = regexp.MustCompile("(?s)```sh\n(.*?)\n```")

// Commands runs the commands of the pages in a folder, those of each page after
// those of README.md, which sets the stage, and reports pages whose commands
// fail or say nothing. environ is that of the commands.
func Commands(ctx context.Context, folder string, environ []string) (lines []string, problems []error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.md"))
	if err != nil || len(paths) == 0 {
		return nil, []error{fmt.Errorf("no pages in %s: %v", folder, err)}
	}
	stage, err := commandsOf(filepath.Join(folder, "README.md"))
	if err != nil {
		return nil, []error{err}
	}
	ran := 0
	for _, path := range paths {
		own, err := commandsOf(path)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		for _, text := range own {
			c := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", strings.Join(stage, "\n")+"\necho ---\n"+text)
			c.Env = environ
			var errors bytes.Buffer
			c.Stderr = &errors
			out, err := c.Output()
			_, said, _ := strings.Cut(string(out), "---\n")
			exports := strings.HasPrefix(text, "export ")
			if err != nil || strings.TrimSpace(said) == "" && !exports {
				problems = append(problems, fmt.Errorf("%s: %s\n%s%s(%v)", filepath.Base(path), text, said, &errors, err))
			}
			ran++
		}
	}
	return []string{fmt.Sprintf("%d commands of %d pages ran", ran, len(paths))}, problems
}

func commandsOf(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read a page: %w", err)
	}
	var all []string
	for _, m := range command.FindAllStringSubmatch(string(data), -1) {
		all = append(all, m[1])
	}
	return all, nil
}
