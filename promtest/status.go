package main

import (
	"errors"
	"io/fs"

	"github.com/alecthomas/kong"

	"github.com/headgate/headgate/internal/invalid"
)

// statusOf is the exit status for an error.
func statusOf(err error) int {
	var parse *kong.ParseError
	var path *fs.PathError
	if errors.As(err, &parse) || errors.As(err, &path) || len(invalid.All(err)) > 0 {
		return exitUsage
	}
	return exitFailure
}
