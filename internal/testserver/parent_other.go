//go:build !linux

package testserver

import "syscall"

// EndWithParent does nothing: only Linux knows how.
func EndWithParent(*syscall.SysProcAttr, syscall.Signal) {}
