package gateway

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"zmtpd/zmtp/memory"
)

// queue has the frames that wait for one client.
type queue struct {
	mu      sync.Mutex
	frames  []*frame      // guarded by mu
	bytes   int64         // of frames; guarded by mu
	writing bool          // a goroutine writes; guarded by mu
	closed  bool          // nothing more is taken; guarded by mu
	room    chan struct{} // closed when frames were taken, nil if nobody waits; guarded by mu
}

// writeChunk is how many frames, and writeBytes how many bytes, leave the queue together.
const (
	writeChunk = 64
	writeBytes = 64 << 10
)

// put adds a reference to f, unless the queue is full or closed.
func (q *queue) put(f *frame, h *memory.Holder, messages int, bytes int64) (ok, first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := int64(len(f.text))
	if q.closed || len(q.frames) > 0 && (len(q.frames) >= messages || q.bytes+size > bytes) ||
		!h.TryPin(size) {
		return false, false
	}
	f.refs.Add(1)
	q.frames = append(q.frames, f)
	q.bytes += size
	first = !q.writing
	q.writing = true
	return true, first
}

// take removes the frames to be written next. There are none when the writer is to end.
func (q *queue) take(dst []*frame) []*frame {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < min(len(q.frames), writeChunk) && (n == 0 || bytes < writeBytes) {
		bytes += int64(len(q.frames[n].text))
		n++
	}
	dst = append(dst, q.frames[:n]...)
	q.remove(n, bytes)
	q.writing = n > 0
	return dst
}

// remove takes the first n frames out, of so many bytes. The caller holds mu.
func (q *queue) remove(n int, bytes int64) {
	rest := copy(q.frames, q.frames[n:])
	clear(q.frames[rest:])
	if q.frames = q.frames[:rest]; rest == 0 {
		q.frames = nil // an idle client needs no memory
	}
	q.bytes -= bytes
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// oldest removes the first frame, nil if there is none.
func (q *queue) oldest() *frame {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.frames) == 0 {
		return nil
	}
	f := q.frames[0]
	q.remove(1, int64(len(f.text)))
	return f
}

// awaitRoom returns a channel that is closed when the next frames leave the queue.
func (q *queue) awaitRoom() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.room == nil {
		q.room = make(chan struct{})
		if len(q.frames) == 0 {
			close(q.room)
		}
	}
	return q.room
}

// close refuses further frames and returns those that wait.
func (q *queue) close() []*frame {
	q.mu.Lock()
	defer q.mu.Unlock()
	rest := slices.Clone(q.frames)
	q.closed = true
	q.remove(len(rest), q.bytes)
	return rest
}

func (q *queue) length() (messages int, bytes int64, writing bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.frames), q.bytes, q.writing
}

// send queues f for the client, as the policy says if the queue is full. The caller keeps its own
// reference. Only with the policy Wait it blocks. Frames without a class do not wait.
func (c *client) send(f *frame) {
	cfg := c.g.cfg.Load()
	for {
		ok, first := c.out.put(f, c.holder, cfg.QueueMessages, cfg.QueueBytes)
		if ok {
			if first {
				c.g.writers.Go(c.write)
			}
			return
		}
		switch {
		case c.ended():
			c.lose(f, Closing)
			return
		case cfg.Overload == Disconnect:
			c.lose(f, QueueFull)
			c.closeFor(SlowClient, websocket.StatusPolicyViolation,
				"Slow client: its queue is full")
			return
		case cfg.Overload == Wait && f.class != nil && c.g.patience.wait(c, cfg.WaitShare):
		default:
			old := c.out.oldest()
			if old == nil { // there is no memory
				c.lose(f, QueueFull)
				return
			}
			c.holder.Unpin(int64(len(old.text)))
			c.lose(old, QueueFull)
			old.release()
		}
	}
}

// lose counts an event that the client does not get.
func (c *client) lose(f *frame, r Reason) {
	if f.class == nil {
		return // an answer, no event
	}
	c.counters.dropped.Add(1)
	c.g.dropped[r].Add(1)
	f.class.dropped.Add(1)
	if r == QueueFull {
		c.g.logClient(r, c, "slow WebSocket client: it loses events")
	}
}

// write writes what waits until there is nothing more.
func (c *client) write() {
	var memory [writeChunk]*frame
	forever := context.Background() // costs nothing; abort ends a write
	for {
		frames := c.out.take(memory[:0])
		if len(frames) == 0 {
			return
		}
		c.conn.cork()
		var err error
		size, bytes := int64(0), uint64(0)
		for _, f := range frames {
			size += int64(len(f.text))
			if err == nil {
				err = c.ws.Write(forever, websocket.MessageText, f.text)
			}
		}
		if e := c.conn.uncork(); err == nil {
			err = e
		}
		for _, f := range frames {
			if err != nil {
				c.lose(f, Closing)
			} else if f.class != nil {
				f.class.out.Add(1)
				c.counters.out.Add(1)
				bytes += uint64(len(f.text))
			}
			f.release()
		}
		c.counters.outBytes.Add(bytes)
		c.holder.Unpin(size)
		c.holder.Progress(int(size))
		if err != nil {
			c.abort()
		}
	}
}

// patience bounds for how long clients may hold the others up. Only the dispatching goroutine uses
// it.
type patience struct {
	left time.Duration
	at   time.Time
}

// patienceTime is the time over which Config.WaitShare is kept.
const patienceTime = 5 * time.Second

// wait waits until the client has taken something, and reports whether it has.
func (p *patience) wait(c *client, share float64) bool {
	room := c.out.awaitRoom()
	now := time.Now()
	if p.at.IsZero() {
		p.at = now.Add(-patienceTime)
	}
	most := time.Duration(share * float64(patienceTime))
	p.left = min(p.left+time.Duration(share*float64(now.Sub(p.at))), most)
	p.at = now
	if p.left <= 0 {
		return false
	}
	timer := time.NewTimer(p.left)
	defer timer.Stop()
	select {
	case <-room:
	case <-timer.C:
		p.left = 0
		p.at = time.Now()
		return false
	case <-c.done:
	case <-c.g.ctx.Done():
	}
	p.left -= time.Since(now)
	p.at = time.Now()
	return true
}
