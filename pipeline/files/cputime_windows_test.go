package files

import (
	"testing"
	"time"
)

// cpuTime returns the elapsed time.
func cpuTime(testing.TB) time.Duration { return time.Since(started) }

var started = time.Now()
