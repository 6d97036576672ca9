// Package printer prints what is in a capture: as text for people, as JSON lines, and as TSV. It
// also selects what is printed. A Writer prints events one by one, and a summary of all.
//
// Everything that comes from a peer is printed so that a terminal does not interpret it.
package printer
