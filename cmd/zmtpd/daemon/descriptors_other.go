//go:build !unix

package daemon

import "log/slog"

// raiseDescriptors does nothing: there is no limit to raise.
func raiseDescriptors(*slog.Logger) {}
