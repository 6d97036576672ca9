package fuzz_test

import (
	"os"
	"testing"

	"zmtpd/zmtp/testkit"
)

// "make test" sets the variable. Then the binary must have the race detector.
func TestRaceDetector(t *testing.T) {
	if os.Getenv("ZMTPD_TEST_RACE") != "" && !testkit.Race {
		t.Error("built without -race")
	}
}
