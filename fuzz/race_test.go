package fuzz_test

import (
	"os"
	"testing"

	"zmtpd/zmtp/testkit"
)

// TestRaceDetector fails where "make test" was asked for, which sets the variable, and the race
// detector is not in this binary.
func TestRaceDetector(t *testing.T) {
	if os.Getenv("ZMTPD_TEST_RACE") != "" && !testkit.Race {
		t.Error("built without -race")
	}
}
