//go:build race

package scaletest

// raceDetector keeps memory of its own for all that was ever allocated, so that nothing can be said about leaks.
const raceDetector = true
