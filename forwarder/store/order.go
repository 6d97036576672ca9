package store

import (
	"bytes"
	"cmp"
	"iter"
	"slices"
	"sort"

	"zmtpd/forwarder/event"
)

// order has the nodes of a store in the order of their keys, in blocks of up to blockSize. A key is
// beside the pointer to its node, so that a search reads few other places of memory: with many keys
// that is what it costs.
type order []block

// block is some nodes; it has at least one.
type block []slot

type slot struct {
	key event.Raw
	*node
}

const blockSize = 256

// compareKeys is event.Compare, and tells 0 from -0, which are two keys.
func compareKeys(a, b event.Raw) int {
	return cmp.Or(event.Compare(a, b), bytes.Compare(a, b))
}

// find returns the place of the first key that is not below a key.
func (o order) find(key event.Raw) (in, at int) {
	in = sort.Search(len(o), func(i int) bool { return compareKeys(o[i][len(o[i])-1].key, key) >= 0 })
	if in == len(o) {
		return in, 0
	}
	b := o[in]
	return in, sort.Search(len(b), func(i int) bool { return compareKeys(b[i].key, key) >= 0 })
}

// insert adds a node, whose key is not there yet.
func (o *order) insert(n *node) {
	all := *o
	in, at := all.find(n.Key)
	if in == len(all) { // behind the last one
		if in == 0 {
			*o = order{make(block, 0, blockSize)}
			all = *o
		} else {
			in--
		}
		at = len(all[in])
	}
	if len(all[in]) == blockSize {
		half := blockSize / 2
		if in == len(all)-1 && at == blockSize { // keys that come in order fill their blocks
			half = blockSize
		}
		right := append(make(block, 0, blockSize), all[in][half:]...)
		clear(all[in][half:])
		all[in] = all[in][:half]
		all = slices.Insert(all, in+1, right)
		*o = all
		if at > half || half == blockSize {
			in, at = in+1, at-half
		}
	}
	all[in] = slices.Insert(all[in], at, slot{n.Key, n})
}

// remove removes the node of a key that is there.
func (o *order) remove(key event.Raw) {
	in, at := o.find(key)
	all := *o
	all[in] = slices.Delete(all[in], at, at+1)
	if len(all[in]) == 0 {
		*o = slices.Delete(all, in, in+1)
	} else if in+1 < len(all) && len(all[in])+len(all[in+1]) <= blockSize/2 {
		all[in] = append(all[in], all[in+1]...)
		*o = slices.Delete(all, in+1, in+2)
	}
}

// from returns the entries from a key on; all of them for nil.
func (o order) from(key event.Raw) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		in, at := 0, 0
		if key != nil {
			in, at = o.find(key)
		}
		for ; in < len(o); in, at = in+1, 0 {
			for _, s := range o[in][at:] {
				if !yield(s.Entry) {
					return
				}
			}
		}
	}
}
