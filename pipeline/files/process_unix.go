//go:build unix

package files

import (
	"os/exec"
	"syscall"
)

// inOwnGroup lets a command run in a process group of its own, so that killGroup reaches what it starts.
func inOwnGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills a command and all that it has started.
func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
