package testserver

import "syscall"

// EndWithParent has a server that is started with attr end, by that signal, when
// the test program is killed.
func EndWithParent(attr *syscall.SysProcAttr, by syscall.Signal) { attr.Pdeathsig = by }
