package testkit

import "os"

// Nightly says whether tests may take long: "make nightly" sets ZMTPD_NIGHTLY=1. Without it a test
// whose model or input is large uses a small one.
func Nightly() bool { return os.Getenv("ZMTPD_NIGHTLY") == "1" }
