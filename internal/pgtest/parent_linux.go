package pgtest

import "syscall"

// endWithParent has the server end when the test program is killed.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
