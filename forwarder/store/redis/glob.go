package redis

// match reports whether text matches a pattern of Redis (stringmatchlen in util.c): * any bytes,
// ? one byte, [abc], [^abc] and [a-c] one of a class, \ a special character as it is. The time is
// at most that of the product of both lengths.
func match(pattern, text []byte) bool {
	p, t := 0, 0
	star, mark := -1, 0 // the last *, and where it has come to
	for t < len(text) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, t
			p++
			continue
		}
		if n := one(pattern[p:], text[t]); n > 0 {
			p += n
			t++
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, t = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// one matches one byte, and returns the length of the part of the pattern that it matches, 0 if
// none.
func one(pattern []byte, c byte) int {
	if len(pattern) == 0 {
		return 0
	}
	switch pattern[0] {
	case '?':
		return 1
	case '[':
		return class(pattern, c)
	case '\\':
		if len(pattern) > 1 {
			if pattern[1] == c {
				return 2
			}
			return 0
		}
	}
	if pattern[0] == c {
		return 1
	}
	return 0
}

// class matches one byte with a class.
func class(pattern []byte, c byte) int {
	i, not, found := 1, false, false
	if i < len(pattern) && pattern[i] == '^' {
		i, not = i+1, true
	}
	for ; i < len(pattern) && pattern[i] != ']'; i++ {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			found = found || pattern[i] == c
		case i+2 < len(pattern) && pattern[i+1] == '-':
			low, high := min(pattern[i], pattern[i+2]), max(pattern[i], pattern[i+2])
			found = found || c >= low && c <= high
			i += 2
		default:
			found = found || pattern[i] == c
		}
	}
	if found == not {
		return 0
	}
	return min(i+1, len(pattern))
}

// literal returns what every text begins with that matches.
func literal(pattern []byte) []byte {
	for i, c := range pattern {
		switch c {
		case '*', '?', '[', '\\':
			return pattern[:i]
		}
	}
	return pattern
}
