package zeek

import "strconv"

// appendAddr appends the text of an address of 4 or 16 bytes, as Zeek writes it. IPv6
// addresses follow RFC 5952, with one exception: more addresses end in a dotted quad than netip
// writes so. Beside ::ffff:1.2.3.4 these are ::0.1.0.2 and ::ffff:0:1.2.3.4.
func appendAddr(dst, a []byte) []byte {
	if len(a) == 4 {
		return appendQuad(dst, a)
	}
	var groups [8]uint16
	for i := range groups {
		groups[i] = uint16(a[2*i])<<8 | uint16(a[2*i+1])
	}
	start, end := longestZeroRun(&groups)
	quad := start == 0 && (end == 6 ||
		end == 5 && groups[5] == 0xffff ||
		end == 4 && groups[4] == 0xffff && groups[5] == 0)
	for i := 0; i < 8; i++ {
		if i == start {
			dst = append(dst, "::"...)
			i = end
			if i == 8 {
				break
			}
		} else if i > 0 {
			dst = append(dst, ':')
		}
		if quad && i == 6 {
			return appendQuad(dst, a[12:])
		}
		dst = appendHexGroup(dst, groups[i])
	}
	return dst
}

// longestZeroRun returns the bounds of the first longest run of at least two zero
// groups, and -1, -1 if there is none.
func longestZeroRun(groups *[8]uint16) (start, end int) {
	start, end = -1, -1
	for i := 0; i < 8; i++ {
		j := i
		for j < 8 && groups[j] == 0 {
			j++
		}
		if j-i >= 2 && j-i > end-start {
			start, end = i, j
		}
		i = j
	}
	return start, end
}

const hexDigits = "0123456789abcdef"

func appendHexGroup(dst []byte, g uint16) []byte {
	if g >= 0x1000 {
		dst = append(dst, hexDigits[g>>12])
	}
	if g >= 0x100 {
		dst = append(dst, hexDigits[g>>8&0xf])
	}
	if g >= 0x10 {
		dst = append(dst, hexDigits[g>>4&0xf])
	}
	return append(dst, hexDigits[g&0xf])
}

func appendQuad(dst, a []byte) []byte {
	for i, v := range a[:4] {
		if i > 0 {
			dst = append(dst, '.')
		}
		if v >= 100 {
			dst = append(dst, '0'+v/100)
		}
		if v >= 10 {
			dst = append(dst, '0'+v/10%10)
		}
		dst = append(dst, '0'+v%10)
	}
	return dst
}

// appendSubnet appends an address and its prefix length. On the wire 96 is added to the prefix
// length of IPv4. As in Zeek, an impossible length is printed too: a negative one, or one that is
// longer than the address.
func appendSubnet(dst, a []byte, length uint64) []byte {
	dst = append(appendAddr(dst, a), '/')
	n := int64(length)
	if len(a) == 4 {
		n -= v4PrefixOffset
	}
	return strconv.AppendInt(dst, n, 10)
}
