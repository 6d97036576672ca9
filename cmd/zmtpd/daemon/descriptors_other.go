//go:build !unix

package daemon

// raiseDescriptors does nothing: there is no limit to raise.
func raiseDescriptors() {}

// descriptorLimit returns 0: there is no limit.
func descriptorLimit() uint64 { return 0 }
