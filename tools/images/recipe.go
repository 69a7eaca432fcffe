package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// recipe is a Dockerfile of two stages: the first builds, the second is the
// image.
type recipe struct {
	name  string
	base  string // image that the first stage starts from
	build []instructions.Command
	image []instructions.Command
	lex   *shell.Lex
}

// readRecipe reads the Dockerfile of a binary.
func readRecipe(root, binary string) (recipe, error) {
	file := filepath.Join(root, "deploy", "docker", binary+".Dockerfile")
	data, err := os.ReadFile(file)
	if err != nil {
		return recipe{}, err
	}
	r, err := parseRecipe(data)
	if err != nil {
		return recipe{}, fmt.Errorf("%s: %w", file, err)
	}
	r.name = binary
	return r, nil
}

func parseRecipe(data []byte) (recipe, error) {
	tree, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return recipe{}, err
	}
	stages, args, err := instructions.Parse(tree.AST, nil)
	if err != nil {
		return recipe{}, err
	}
	if len(stages) != 2 || stages[0].Name != buildStage {
		return recipe{}, fmt.Errorf("it has %d stages, want one named %s and the image after it", len(stages), buildStage)
	}
	if stages[1].BaseName != "scratch" {
		return recipe{}, fmt.Errorf("the image starts from %s, want scratch", stages[1].BaseName)
	}
	r := recipe{build: stages[0].Commands, image: stages[1].Commands, lex: shell.NewLex(tree.EscapeToken)}
	global := variables{}
	for _, a := range args {
		global.declare(a.Args, nil)
	}
	r.base, err = r.expand(stages[0].BaseName, global)
	return r, err
}

// buildStage is the name of the first stage.
const buildStage = "build"

// expand fills in the variables of a word.
func (r recipe) expand(word string, v variables) (string, error) {
	expanded, _, err := r.lex.ProcessWord(word, v)
	return expanded, err
}

// fill fills in the variables of a command.
func (r recipe) fill(c instructions.Command, v variables) error {
	if c, can := c.(instructions.SupportsSingleWordExpansion); can {
		return c.Expand(func(word string) (string, error) { return r.expand(word, v) })
	}
	return nil
}

// variables are those of a stage: declared by ARG, or set by ENV. It is a
// shell.EnvGetter.
type variables map[string]string

func (v variables) Get(name string) (string, bool) {
	value, found := v[name]
	return value, found
}

func (v variables) Keys() []string {
	var names []string
	for name := range v {
		names = append(names, name)
	}
	return names
}

// declare declares build arguments; one that is given has that value instead of
// its default.
func (v variables) declare(args []instructions.KeyValuePairOptional, given map[string]string) {
	for _, a := range args {
		if value, found := given[a.Key]; found {
			v[a.Key] = value
		} else {
			v[a.Key] = a.ValueString()
		}
	}
}
