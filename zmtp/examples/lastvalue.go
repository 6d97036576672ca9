package main

import (
	"context"

	"zmtpd/zmtp"
)

// lastValueCache passes messages from sub to pub, and keeps the last one of each topic, which is
// the first part. A subscriber that comes later gets it at once. pub needs XPubOptions.Verbose, or
// it does not say that a topic has one more subscriber. The subscription is for one topic, not a
// prefix; the other subscribers of the topic get the value once more.
func lastValueCache(ctx context.Context, sub *zmtp.Sub, pub *zmtp.XPub) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := sub.Subscribe(""); err != nil {
		return err
	}
	last := make(map[string]zmtp.Message)
	values, subscriptions := incoming(ctx, sub), incoming(ctx, pub)
	for {
		var m zmtp.Message
		select {
		case value, ok := <-values:
			if !ok {
				return context.Cause(ctx)
			}
			last[string(value.Part(0))] = value
			m = value
		case request, ok := <-subscriptions:
			if !ok {
				return context.Cause(ctx)
			}
			b := request.Part(0)
			if request.NumParts() != 1 || len(b) == 0 || b[0] != 1 {
				continue
			}
			if m, ok = last[string(b[1:])]; !ok {
				continue
			}
		}
		if err := pub.Send(ctx, m); err != nil {
			return err
		}
	}
}
