package interop

import (
	"fmt"
	"os"
	"testing"
)

// TestAbstract is libzmq's test_abstract_ipc: a name in the abstract namespace of Linux is the same
// for both libraries, and leaves no file behind.
func TestAbstract(t *testing.T) {
	t.Parallel()
	for i, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("%v listens", role[0]), func(t *testing.T) {
			endpoint := fmt.Sprintf("ipc://@zmtp-test-%d-%d", os.Getpid(), i)
			pull, push := role[0].open(t, "PULL", options{}), role[1].open(t, "PUSH", options{})
			if bound := link(pull, push, endpoint); bound != endpoint {
				t.Errorf("bound %s, want %s", bound, endpoint)
			}
			push.send("hello")
			checkMessage(t, pull.recv(), []string{"hello"})
			if _, err := os.Lstat(endpoint[len("ipc://"):]); err == nil {
				t.Error("there is a file of that name")
			}
		})
	}
}
