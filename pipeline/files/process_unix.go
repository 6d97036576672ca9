//go:build unix

package files

import (
	"os/exec"
	"syscall"
)

// inOwnGroup lets a command run in its own process group, so that killGroup reaches its children.
func inOwnGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills a command and its children.
func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
