package pipeline

import "fmt"

// Counts is a number of messages, each with one batch, and of their records. A message that cannot
// be decoded counts without records.
type Counts struct {
	Messages, Records uint64
}

// Add adds d to c.
func (c *Counts) Add(d Counts) {
	c.Messages += d.Messages
	c.Records += d.Records
}

// Sub subtracts d from c.
func (c *Counts) Sub(d Counts) {
	c.Messages -= d.Messages
	c.Records -= d.Records
}

// Accounts say what has become of log batches. At every moment Received is the sum
// of Written, Queued and Dropped, in all and for each log and sender.
type Accounts struct {
	Received Counts
	Written  Counts
	Queued   Counts
	Dropped  map[Reason]Counts // for every reason, in Reasons
	Logs     []LogStats        // by path, then stream
	Senders  []SenderStats     // by node id
}

// Check returns an error that names the first account whose Received is not the sum of Written,
// Queued and Dropped.
func (a Accounts) Check() error {
	var dropped, logs, senders Counts
	for _, n := range a.Dropped {
		dropped.Add(n)
	}
	if err := checkSum(a.Received, a.Written, a.Queued, dropped); err != nil {
		return err
	}
	for _, s := range a.Logs {
		logs.Add(s.Written)
		if err := checkSum(s.Received, s.Written, s.Queued, s.Dropped); err != nil {
			return fmt.Errorf("log %q of %q: %w", s.Path, s.Stream, err)
		}
	}
	for _, s := range a.Senders {
		senders.Add(s.Received)
		if err := checkSum(s.Received, s.Written, s.Queued, s.Dropped); err != nil {
			return fmt.Errorf("sender %q: %w", s.Node, err)
		}
	}
	if logs != a.Written || senders != a.Received {
		return fmt.Errorf("written %+v, by log %+v; received %+v, by sender %+v", a.Written, logs,
			a.Received, senders)
	}
	return nil
}

func checkSum(received, written, queued, dropped Counts) error {
	sum := written
	sum.Add(queued)
	sum.Add(dropped)
	if sum != received {
		return fmt.Errorf("received %+v, but written, queued and dropped are %+v, %+v and %+v",
			received, written, queued, dropped)
	}
	return nil
}

// LogStats is what came from one stream for one log path. What is refused before its log
// is known is not in it, such as a batch with a bad header.
type LogStats struct {
	Path, Stream string // both empty for all logs beyond the first 10000
	// File is the name of its file in the log folder, without extension: the path unless another
	// stream has that. Empty where there are no files.
	File string

	Received, Written, Queued, Dropped Counts

	ByReason map[Reason]Counts // of Dropped; nil if nothing was

	Bytes uint64 // written to files, with headers, compressed if logs are while they are written
}

// SenderStats is what came from one node.
type SenderStats struct {
	// Node is the id that the node gave itself; it is another one each time the node
	// starts. Empty stands for all nodes beyond the first 1024 and for messages
	// without an id.
	Node string

	Received, Written, Queued, Dropped Counts

	ByReason map[Reason]Counts // of Dropped; nil if nothing was
}
