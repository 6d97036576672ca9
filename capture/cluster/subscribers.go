package cluster

import (
	"iter"
	"time"

	"zmtpd/capture"
)

// subscribers finds the sessions whose client has subscribed a prefix of a topic.
type subscribers struct {
	byTopic map[string]map[*session]struct{}
	lengths [maxName + 1]int // how many topics there are of each length
}

func (x *subscribers) add(topic string, s *session) {
	if x.byTopic[topic] == nil {
		x.byTopic[topic] = map[*session]struct{}{}
		x.lengths[len(topic)]++
	}
	x.byTopic[topic][s] = struct{}{}
}

func (x *subscribers) remove(topic string, s *session) {
	of := x.byTopic[topic]
	if delete(of, s); of != nil && len(of) == 0 {
		delete(x.byTopic, topic)
		x.lengths[len(topic)]--
	}
}

// match returns the subscriptions that match a topic. A session with several of them comes several
// times.
func (x *subscribers) match(topic []byte, l *load) iter.Seq2[string, *session] {
	return func(yield func(string, *session) bool) {
		for n := range min(len(topic), maxName) + 1 {
			if x.lengths[n] == 0 {
				continue
			}
			l.steps++
			for s := range x.byTopic[string(topic[:n])] {
				l.steps++
				if !yield(string(topic[:n]), s) {
					return
				}
			}
		}
	}
}

// subscribe takes a subscription of the client of a session.
func (a *Analyzer) subscribe(s *session, topic []byte, now time.Time) {
	if len(topic) > maxName || a.subscribed >= maxTopics {
		return
	}
	name := string(topic)
	if _, known := s.topics[name]; !known {
		a.subscribed++
		if b := a.broker(s.public, true); b != nil && isEgress(s.public) {
			b.subscribers.add(name, s)
		}
	}
	s.topics[name] = now
}

// unsubscribe takes the end of a subscription.
func (a *Analyzer) unsubscribe(s *session, topic string) {
	if _, known := s.topics[topic]; !known {
		return
	}
	delete(s.topics, topic)
	a.subscribed--
	if b := a.broker(s.public, false); b != nil {
		b.subscribers.remove(topic, s)
	}
}

// end takes the end of a session.
func (a *Analyzer) end(s *session, ev *capture.Event) {
	delete(a.sessions, ev.Session.ID)
	if b := a.broker(s.public, false); b != nil {
		b.expire(ev.Time.Add(-a.opts.MaxLatency))
	}
	for topic := range s.topics {
		a.unsubscribe(s, topic)
	}
	s.ended = true
	if len(a.ended) >= maxNames {
		a.skipped++
		return
	}
	a.ended = append(a.ended, a.summarize(s, ev))
}
