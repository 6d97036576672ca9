package testkit

import "os"

// Nightly reports whether tests have the time of a night: long models run only then. It is so when
// the environment variable ZMTPD_NIGHTLY is "1".
func Nightly() bool { return os.Getenv("ZMTPD_NIGHTLY") == "1" }
