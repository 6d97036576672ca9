package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/coder/websocket"

	"zmtpd/forwarder"
	"zmtpd/zmtp/topics"
)

const (
	// maxTopics bounds the topics that a client subscribes.
	maxTopics = 1000
	// maxTopicBytes bounds them together, in bytes: all publishers keep them.
	maxTopicBytes = 64 << 10
)

// parseSubscriptions reads the first message of a client: a JSON array of strings. fault is
// Zeek's text for what is wrong, empty if nothing is.
func parseSubscriptions(text []byte) (all []string, reason Reason, fault string) {
	const noArray = "subscriptions not an array"
	if !json.Valid(text) {
		return nil, BadSubscriptions, noArray
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, BadSubscriptions, noArray
	}
	size := 0
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		topic, ok := t.(string)
		if err != nil || !ok {
			return nil, BadSubscriptions, "individual subscription not a string"
		}
		if seen[topic] {
			continue
		}
		seen[topic] = true
		all = append(all, topic)
		if size += len(topic); len(all) > maxTopics || size > maxTopicBytes {
			return nil, TooManyTopics, fmt.Sprintf("more than %d subscriptions or %d bytes",
				maxTopics, maxTopicBytes)
		}
	}
	return all, 0, ""
}

// subscribe acts on the first message of the client.
func (c *client) subscribe(text []byte) {
	all, reason, fault := parseSubscriptions(text)
	switch {
	case reason == TooManyTopics:
		c.reply(reason, "too_many_subscriptions", fault)
		c.dismiss("Too many subscriptions")
		return
	case fault != "":
		c.reply(reason, codeFailed, fault) // Zeek leaves the connection open
		return
	}
	for _, topic := range all {
		if !forwarder.Allows(c.identity.Subscribe, []byte(topic)) {
			c.reply(SubscribeDenied, "not_permitted", fmt.Sprintf("may not subscribe %q", topic))
			c.dismiss("A subscription is not permitted")
			return
		}
	}
	if err := c.g.subscribe(c, all); err != nil {
		c.reply(TooManyTopics, "too_many_subscriptions", err.Error())
		c.dismiss("Too many subscriptions")
		return
	}
	c.acknowledged = true
	c.sendText(ackText(c.endpoint, c.g.cfg.Load().Version))
}

// dismiss closes the connection of a client whose fault is counted already. What was sent to it
// goes out before.
func (c *client) dismiss(text string) {
	if c.closing.Swap(true) {
		return
	}
	c.g.spawn(func() {
		ctx, cancel := context.WithTimeout(c.g.ctx, closeTimeout)
		defer cancel()
		c.flush(ctx)
		c.close(websocket.StatusPolicyViolation, text)
	})
}

// subscribe subscribes topics for a client, all or none.
func (g *Gateway) subscribe(c *client, all []string) error {
	g.subscribing.Lock()
	defer g.subscribing.Unlock()
	size := int64(0)
	for _, topic := range all {
		change := g.table.Subscribe(c, []byte(topic))
		if change.First {
			if err := g.local.Subscribe([]byte(topic)); err != nil {
				g.table.Cancel(c, []byte(topic)) // the Forwarder has no such subscription
				g.remove(c)
				return err
			}
		}
		size += topics.Cost(topic)
	}
	c.topicBytes = size
	c.holder.Add(size)
	return nil
}

// unsubscribe cancels all subscriptions of a client.
func (g *Gateway) unsubscribe(c *client) {
	g.subscribing.Lock()
	defer g.subscribing.Unlock()
	g.remove(c)
	c.holder.Release(c.topicBytes)
}

// remove cancels all subscriptions of a client. The caller holds subscribing.
func (g *Gateway) remove(c *client) {
	for _, r := range g.table.Remove(c) {
		if r.Last {
			g.local.Cancel([]byte(r.Topic))
		}
	}
}
