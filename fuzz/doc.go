// Package fuzz has the fuzz targets over the public packages, one file a package under test. It has
// no code of its own.
//
// A target states properties that hold for every input: what is decoded encodes to the same bytes,
// a fast structure agrees with an obviously correct one, nothing panics, and nothing takes more
// memory than its input allows. Its seeds are recorded data where there are any. They are listed in
// corpora, by the name of the target, and a test fails when a target has none: fuzzing that starts
// from nothing finds nothing.
//
// Run them all for a set time with "make fuzz FUZZTIME=30s". An input that fails is written to
// testdata/fuzz and is to be committed with the repair.
package fuzz
