package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/headgate/headgate/pressure"
)

// diskSize is the size of the small disk in bytes.
const diskSize = 16 << 20

// mountDisk makes a small disk of its own for the store.
func mountDisk(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize)); err != nil {
		return fmt.Errorf("mount a small disk, which takes root: %w", err)
	}
	return nil
}

// fillDisk takes all room that the store's disk has left, until the provider is
// shut.
func fillDisk(ctx context.Context, w *World) error {
	filler := w.path("disk/filler")
	if err := fill(filler); err != nil {
		return err
	}
	err := w.await(ctx, 40*time.Second, "the provider to be shut at HARD", func() bool {
		s := w.watch.last()
		return s.answered && s.state.Level == pressure.Hard && s.state.EffectivePerSecond <= 1
	})
	return errors.Join(err, os.Remove(filler))
}

// fill writes a file until there is no room.
func fill(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	for block := make([]byte, 4096); ; {
		if _, err := file.Write(block); errors.Is(err, syscall.ENOSPC) {
			return nil
		} else if err != nil {
			return fmt.Errorf("fill the disk: %w", err)
		}
	}
}
