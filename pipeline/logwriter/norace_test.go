//go:build !race

package logwriter

const raceEnabled = false
