package files

import (
	"testing"
	"time"
)

// cpuTime returns the time of the clock.
func cpuTime(testing.TB) time.Duration { return time.Since(started) }

var started = time.Now()
