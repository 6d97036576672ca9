// Package fuzz has the fuzz targets for the public packages, one file for each package. It has no
// other code.
//
// A target states properties that hold for every input: decoded data encodes to the same bytes, a
// fast structure agrees with an obviously correct one, nothing panics, and nothing takes more
// memory than its input allows. Its seeds are recorded data where there are any. They are listed in
// corpora by the name of the target, and a test fails if a target has none: without seeds, fuzzing
// finds nothing.
//
// "make fuzz FUZZTIME=30s" runs each target for the given time. It writes an input that fails to
// testdata/fuzz. Commit that file together with the repair.
package fuzz
