// Command dependencies writes the list of all modules that are compiled into the
// binaries: what each is for, its licence, and through which of the modules that
// Headgate asks for it comes.
//
//	go -C tools/dependencies run . ../..
package main

//go:generate go run . ../..

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// page is where the list is, from the top of the repository.
const page = "docs/dependencies.md"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dependencies REPOSITORY")
		os.Exit(2)
	}
	text, err := list(ctx, os.Args[1], "purposes.yaml")
	if err == nil {
		err = os.WriteFile(filepath.Join(os.Args[1], page), text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dependencies:", err)
		os.Exit(1)
	}
}
