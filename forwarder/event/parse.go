package event

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// MaxDepth is how deep containers may be nested: as deep as Zeek's reader of broker-json-v1 allows.
// A deeper value is refused, since it could exhaust the stack of a Zeek node.
const MaxDepth = 63

// Parse checks that b is one value in broker-bin-v1 and nothing else, and returns it without a
// copy. It does not allocate, unless a set or table is not in order; then it allocates less than
// eight times the size of that. Errors are of type *[Error].
func Parse(b []byte) (Raw, error) {
	end, err := check(b, 0, 0)
	if err != nil {
		return nil, err
	}
	if end != len(b) {
		return nil, fault(Trailing, end, "%d bytes", len(b)-end)
	}
	return Raw(b), nil
}

// check checks the value at b[at:] and returns where it ends.
func check(b []byte, at, depth int) (end int, err *Error) {
	if at >= len(b) {
		return 0, fault(Truncated, at, "a value is missing")
	}
	k := Kind(b[at])
	start := at
	at++
	if k >= numKinds {
		return 0, fault(UnknownTag, start, "%#02x", b[start])
	}
	if k >= SetOf || k == String || k == EnumValue {
		n, used := length(b[at:])
		if used == 0 {
			return 0, fault(BadValue, at, "the length of a %v is not whole or too large", k)
		}
		at += used
		least := n // bytes: an element has one at least, an entry two
		if k == TableOf {
			least = 2 * n
		}
		if least > len(b)-at {
			return 0, fault(Truncated, at, "a %v of %d, and %d bytes are left", k, n, len(b)-at)
		}
		if k < SetOf {
			return at + n, nil
		}
		return checkContainer(b, at, k, n, depth)
	}
	if len(b)-at < sizes[k] {
		return 0, fault(Truncated, at, "a %v needs %d bytes, %d are left", k, sizes[k], len(b)-at)
	}
	end = at + sizes[k]
	switch {
	case k == PortNumber && b[end-1] > byte(ProtoICMP):
		return 0, fault(BadValue, end-1, "there is no protocol %d of a port", b[end-1])
	case k == Subnet:
		if bits := b[end-1]; bits > 128 || bits < 96 && address(b[at:]).Is4() {
			return 0, fault(BadValue, end-1, "a subnet of %v with %d bits", address(b[at:]), bits)
		}
	}
	return end, nil
}

// checkContainer checks n elements or entries at b[at:].
func checkContainer(b []byte, at int, k Kind, n, depth int) (end int, err *Error) {
	if depth >= MaxDepth {
		return 0, fault(TooDeep, at, "more than %d containers in one another", MaxDepth)
	}
	begin, last := at, -1
	ordered := true
	for range n {
		key := at
		if at, err = check(b, at, depth+1); err != nil {
			return 0, err
		}
		if k != VectorOf && ordered && last >= 0 {
			ordered = compare(b[last:], b[key:]) < 0
		}
		last = key
		if k == TableOf {
			if at, err = check(b, at, depth+1); err != nil {
				return 0, err
			}
		}
	}
	if k != VectorOf && !ordered {
		if err := checkUnordered(b[:at], begin, k, n); err != nil {
			return 0, err
		}
	}
	return at, nil
}

// checkUnordered checks that the n elements or keys of b[begin:] differ, which are in any order.
func checkUnordered(b []byte, begin int, k Kind, n int) *Error {
	parts := partsOf(b, begin, k, n)
	sortParts(b, parts)
	if i := duplicate(b, parts); i >= 0 {
		return fault(Duplicate, int(max(parts[i-1].from, parts[i].from)), "twice in a %v", k)
	}
	return nil
}

// part is an element of a set, or an entry of a table, which begins with its key.
type part struct{ from, to uint32 }

// partsOf returns the n elements or entries of the container whose content is b[begin:].
func partsOf(b []byte, begin int, k Kind, n int) []part {
	parts := make([]part, 0, n)
	for at := begin; at < len(b); {
		from := at
		at += size(b[at:])
		if k == TableOf {
			at += size(b[at:])
		}
		parts = append(parts, part{uint32(from), uint32(at)})
	}
	return parts
}

func sortParts(b []byte, parts []part) {
	slices.SortFunc(parts, func(x, y part) int { return compare(b[x.from:], b[y.from:]) })
}

// duplicate returns the index of the second of two equal ones among sorted parts, -1 if they
// differ.
func duplicate(b []byte, parts []part) int {
	for i := 1; i < len(parts); i++ {
		if compare(b[parts[i-1].from:], b[parts[i].from:]) == 0 {
			return i
		}
	}
	return -1
}

// Compare orders two values as broker orders them: by kind, then by value, containers by their
// elements. Zero and minus zero are equal.
func Compare(a, b Raw) int {
	if len(a) == 0 || len(b) == 0 {
		return int(a.Kind()) - int(b.Kind())
	}
	return compare(a, b)
}

// compare orders the values at the front of a and b, which have been checked, as broker orders
// them: by kind, then by value.
func compare(a, b []byte) int {
	c, _, _ := compareFirst(a, b)
	return c
}

// compareFirst is compare. If the values are equal, it returns their sizes as well.
func compareFirst(a, b []byte) (c, sizeA, sizeB int) {
	k := Kind(a[0])
	if c := int(a[0]) - int(b[0]); c != 0 {
		return c, 0, 0
	}
	switch k {
	case Int, Timestamp, Timespan:
		c = cmp.Compare(Raw(a).signed(), Raw(b).signed())
	case Real:
		c = compareReal(binary.BigEndian.Uint64(a[1:]), binary.BigEndian.Uint64(b[1:]))
	case String, EnumValue:
		n, usedA := length(a[1:])
		m, usedB := length(b[1:])
		sizeA, sizeB = 1+usedA+n, 1+usedB+m
		return bytes.Compare(a[1+usedA:sizeA], b[1+usedB:sizeB]), sizeA, sizeB
	case SetOf, TableOf, VectorOf:
		return compareContainers(a, b, k)
	default:
		c = bytes.Compare(a[1:1+sizes[k]], b[1:1+sizes[k]])
	}
	return c, 1 + sizes[k], 1 + sizes[k]
}

func compareContainers(a, b []byte, k Kind) (c, sizeA, sizeB int) {
	n, usedA := length(a[1:])
	m, usedB := length(b[1:])
	atA, atB := 1+usedA, 1+usedB
	values := min(n, m)
	if k == TableOf {
		values *= 2
	}
	for range values {
		c, x, y := compareFirst(a[atA:], b[atB:])
		if c != 0 {
			return c, 0, 0
		}
		atA += x
		atB += y
	}
	return cmp.Compare(n, m), atA, atB
}

// compareReal orders doubles. NaN, which has no order, is above all others. Zero is one value.
func compareReal(x, y uint64) int {
	a, b := unpackReal(x), unpackReal(y)
	if math.IsNaN(a) || math.IsNaN(b) {
		return cmp.Compare(b, a) // NaN is below all others there
	}
	return cmp.Compare(a, b)
}
