package cluster

import "time"

// Counts are the counts of what has the same name.
type Counts struct {
	Messages, Bytes, Records uint64
	First, Last              time.Time
	// Gap is the longest time between two messages, and GapAt its beginning.
	Gap   time.Duration
	GapAt time.Time
}

func (c *Counts) add(now time.Time, bytes, records uint64) {
	if c.Messages == 0 {
		c.First = now
	} else if gap := now.Sub(c.Last); gap > c.Gap {
		c.Gap, c.GapAt = gap, c.Last
	}
	c.Messages++
	c.Bytes += bytes
	c.Records += records
	c.Last = now
}

// Rate returns messages a second between the first and the last one, 0 for less than two.
func (c *Counts) Rate() float64 {
	if d := c.Last.Sub(c.First); d > 0 {
		return float64(c.Messages-1) / d.Seconds()
	}
	return 0
}

// names are counts by name. Beyond maxNames all others are counted together.
type names map[string]*Counts

// Others is the name under which the names beyond the limit are counted.
const Others = "(others)"

func (n names) add(name []byte, now time.Time, bytes, records uint64) {
	name = name[:min(len(name), maxName)]
	c := n[string(name)]
	if c == nil {
		key := string(name)
		if len(n) >= maxNames {
			key = Others
			c = n[key]
		}
		if c == nil {
			c = new(Counts)
			n[key] = c
		}
	}
	c.add(now, bytes, records)
}
