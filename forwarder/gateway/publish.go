package gateway

import (
	"fmt"

	"zmtpd/forwarder"
	"zmtpd/forwarder/event"
	"zmtpd/zmtp"
)

// codeFailed is Zeek's code for messages from clients that it cannot read.
const codeFailed = "deserialization_failed"

// reply sends an error to the client and counts it.
func (c *client) reply(r Reason, code, context string) {
	c.g.refuse(r, c.remote, c.identity.Name, "application", c.app, "context", context)
	c.sendText(errorText(code, context))
}

func (c *client) sendText(text []byte) {
	if f := newFrame(text, nil, c.g.holder); f != nil {
		c.send(f)
		f.release()
	}
}

// maxTopic is the size of the longest topic, in bytes.
const maxTopic = 4 << 10

// publish checks and publishes an event from the client.
func (c *client) publish(text []byte) error {
	if !c.acknowledged {
		c.g.refused[NotAcknowledged].Add(1) // Zeek never looks at such messages
		return nil
	}
	topic, body, err := event.ParseMessage(nil, text)
	if err != nil {
		c.reply(BadJSON, codeFailed, "failed to decode JSON object")
		return nil
	}
	if topic == nil {
		c.reply(NoTopic, codeFailed, "no topic in top-level JSON object")
		return nil
	}
	e, err := event.ParseEvent(body)
	if err == nil {
		err = c.g.files.signatures().Check(e)
		if err != nil {
			c.g.refused[BadSignature].Add(1)
		}
	} else {
		c.g.refused[BadEvent].Add(1)
	}
	if err != nil {
		c.logEvent(err)
		c.sendText(errorText(codeFailed, "failed to create Zeek event"))
		return nil
	}
	switch {
	case len(topic) > maxTopic:
		c.reply(BadTopic, "invalid_topic",
			fmt.Sprintf("the topic has more than %d bytes", maxTopic))
		return nil
	case !forwarder.Allows(c.identity.Publish, topic):
		c.reply(PublishDenied, "not_permitted", fmt.Sprintf("may not publish %q", topic))
		return nil
	}
	var b zmtp.BatchBuilder
	b.Add(topic, []byte(c.endpoint), []byte(event.BinaryName), body)
	batch := b.Batch()
	defer batch.Release()
	if err := c.pub.Publish(batch); err != nil {
		c.g.refused[Closing].Add(1)
		return nil // the connection is about to be closed
	}
	c.g.accounts.class(topic).in.Add(1)
	return nil
}

// logEvent logs why an event was refused: Zeek's error message does not say it.
func (c *client) logEvent(err error) {
	if more, ok := c.g.limit.Admit("event", c.endpoint); ok {
		c.g.log.Warn("event of a WebSocket client refused", "peer", c.remote, "client",
			c.identity.Name, "application", c.app, "err", err, "others", more)
	}
}
