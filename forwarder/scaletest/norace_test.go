//go:build !race

package scaletest

const raceDetector = false
