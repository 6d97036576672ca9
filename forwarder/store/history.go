package store

// history has the last changes of a store, for those who follow it. They are in blocks, so that it
// grows without copying what it has: a copy of some megabytes would hold all users of the store up.
type history struct {
	blocks  [][]Change // in order of Seq, without gaps; all but the last are full
	dropped int        // changes at the begin of the first block that are no longer kept
	spare   []Change   // an empty block
	bytes   int64
	limit   int64 // bytes
	last    uint64
	news    chan struct{} // closed when there is more; nil if nobody waits
}

// historyBlock is the number of changes in a block.
const historyBlock = 256

// len returns the number of changes.
func (h *history) len() int {
	n := len(h.blocks)
	if n == 0 {
		return 0
	}
	return (n-1)*historyBlock + len(h.blocks[n-1]) - h.dropped
}

// at returns a change by its place, from 0 for the oldest one to len-1.
func (h *history) at(i int) *Change {
	i += h.dropped
	return &h.blocks[i/historyBlock][i%historyBlock]
}

func (h *history) append(changes []Change) {
	if len(changes) == 0 {
		return
	}
	for i := range changes {
		h.bytes += changes[i].size()
	}
	h.last = changes[len(changes)-1].Seq
	for len(changes) > 0 {
		n := len(h.blocks)
		if n == 0 || len(h.blocks[n-1]) == historyBlock {
			if h.spare == nil {
				h.spare = make([]Change, 0, historyBlock)
			}
			h.blocks, h.spare = append(h.blocks, h.spare), nil
			continue
		}
		some := min(len(changes), historyBlock-len(h.blocks[n-1]))
		h.blocks[n-1] = append(h.blocks[n-1], changes[:some]...)
		changes = changes[some:]
	}
	for h.bytes > h.limit && h.len() > 1 {
		h.drop()
	}
	if h.news != nil {
		close(h.news)
		h.news = nil
	}
}

// drop removes the oldest change.
func (h *history) drop() {
	c := h.at(0)
	h.bytes -= c.size()
	*c = Change{}
	if h.dropped++; h.dropped == historyBlock {
		h.spare, h.dropped = h.blocks[0][:0], 0
		h.blocks[0] = nil
		h.blocks = h.blocks[1:]
	}
}

// after returns changes behind a number: most of them, and more until an Update is whole. It
// returns false if one of them is missing.
func (h *history) after(seq uint64, most int) (changes []Change, ok bool) {
	behind := h.last - seq
	if seq > h.last || behind > uint64(h.len()) {
		return nil, false
	}
	first := h.len() - int(behind)
	end := min(h.len(), first+most)
	for end > first && end < h.len() && !h.at(end-1).Last {
		end++
	}
	for i := first; i < end; {
		block := h.blocks[(i+h.dropped)/historyBlock][(i+h.dropped)%historyBlock:]
		some := min(end-i, len(block))
		changes = append(changes, block[:some]...)
		i += some
	}
	return changes, true
}
