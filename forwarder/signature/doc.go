// Package signature checks whether Zeek nodes could take an event: whether it is declared, with as
// many arguments, of such types.
//
// The declarations are in Zeek's language, so that they can be copied from scripts:
//
//	module Edge;
//	type Color: enum { RED, GREEN };
//	type Leaf: record { a: count; b: string &optional; };
//	global ping: event(text: string, n: count);
//	global leaves: event(c: Color, by_name: table[string] of Leaf);
//
// [Parse] reads module, export, type and global declarations of events, and passes over comments
// and attributes. A type that is not declared, such as one of Zeek's own, fits every value.
package signature
