//go:build !race

package testkit

// Race says whether the test was built with the race detector, which multiplies memory and time.
const Race = false
