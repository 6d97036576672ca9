//go:build !unix

package main

import "log/slog"

// raiseDescriptors does nothing: there is no limit to raise.
func raiseDescriptors(*slog.Logger) {}
