package pipeline

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		runOutletChild(mode)
		return
	}
	goleak.VerifyTestMain(m)
}
