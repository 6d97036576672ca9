//go:build !unix

package daemon

import "log/slog"

// raiseDescriptors does nothing: there is no limit to raise.
func raiseDescriptors(*slog.Logger) {}

// descriptorLimit returns 0: there is no limit.
func descriptorLimit() uint64 { return 0 }
