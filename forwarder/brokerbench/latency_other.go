//go:build !linux

package main

import (
	"errors"
	"time"
)

var errLinux = errors.New("latency is measured on Linux only, where a thread can sleep exactly")

func (*generator) paced(*broker, *peers, int, time.Duration) (delays, error) {
	return delays{}, errLinux
}

func inRealTime(func() error) error { return errLinux }
