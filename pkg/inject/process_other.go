//go:build !unix

package inject

import "os/exec"

// killTogether has no process groups here; the command itself is ended.
func killTogether(*exec.Cmd) {}
