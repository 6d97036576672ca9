package testkit_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"zmtpd/zmtp/testkit"
)

const brokerStatus = `{"forwarder": {
	"received": {"messages": 10, "routed": 7, "unmatched": 2, "denied": 1},
	"upstream": {"messages": 6, "routed": 3, "unmatched": 2, "denied": 1},
	"account": {"matched": 14, "delivered": 8, "queued": 3, "held": 1, "dropped": {"full": 2}},
	"xsub": {"received": {"messages": 10}},
	"xpub": {"peers": [
		{"address": "192.0.2.1:1", "account": {"matched": 7, "delivered": 7}},
		{"address": "192.0.2.1:2", "account": {"matched": 7, "delivered": 1, "queued": 3, "held": 1,
			"dropped": {"full": 2}}}
	]}}}`

const loggerStatus = `{"logger": {
	"pull": {"received": {"messages": 20}, "receive_queue": 2, "dropped": {"closed": 1, "too_large": 9}},
	"received": {"messages": 17},
	"sinks": [{"sink": "files",
		"received": {"messages": 17, "records": 170},
		"written": {"messages": 10, "records": 100}, "queued": {"messages": 4, "records": 40},
		"dropped": {"write": {"messages": 3, "records": 30}},
		"paths": [
			{"received": {"messages": 12, "records": 120}, "written": {"messages": 10, "records": 100},
				"queued": {"messages": 2, "records": 20}},
			{"received": {"messages": 5, "records": 50}, "queued": {"messages": 2, "records": 20},
				"dropped": {"write": {"messages": 3, "records": 30}}}],
		"nodes": [
			{"received": {"messages": 17, "records": 170},
				"written": {"messages": 10, "records": 100}, "queued": {"messages": 4, "records": 40},
				"dropped": {"write": {"messages": 3, "records": 30}}}]}]}}`

const balanceStatus = `{"balance": {
	"pull": {"received": {"messages": 30}, "receive_queue": 3, "dropped": {"closed": 1, "too_large": 9}},
	"push": {"sent": {"messages": 29}}, "homeless": 2, "loggers": [{"moved": 4}, {"moved": 1}]}}`

// TestUnbalanced takes accounts that add up, and then the same with any single number changed.
func TestUnbalanced(t *testing.T) {
	for name, status := range map[string]string{
		"broker": brokerStatus, "logger": loggerStatus, "balance": balanceStatus,
	} {
		t.Run(name, func(t *testing.T) {
			everything := []string{"192.0.2.1:1", "192.0.2.1:2"}
			if err := testkit.Unbalanced([]byte(status), everything...); err != nil {
				t.Fatal(err)
			}
			var all any
			if err := json.Unmarshal([]byte(status), &all); err != nil {
				t.Fatal(err)
			}
			numbers := 0
			change(all, "", func(at string) {
				if strings.HasSuffix(at, "/too_large") {
					return // was refused before it was received
				}
				numbers++
				b, err := json.Marshal(all)
				if err != nil {
					t.Fatal(err)
				}
				if testkit.Unbalanced(b, everything...) == nil {
					t.Errorf("nothing is found when %s is one more", at)
				}
			})
			if numbers == 0 {
				t.Error("there is no number to change")
			}
		})
	}
}

// change adds one to each number in v, one after the other, and calls try meanwhile.
func change(v any, at string, try func(at string)) {
	step := func(child any, at string, set func(any)) {
		if n, ok := child.(float64); ok {
			set(n + 1)
			try(at)
			set(n)
			return
		}
		change(child, at, try)
	}
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			step(child, at+"/"+key, func(to any) { v[key] = to })
		}
	case []any:
		for i, child := range v {
			step(child, fmt.Sprint(at, "/", i), func(to any) { v[i] = to })
		}
	}
}

// TestUnbalancedNotConnected: a subscriber of everything that is gone cannot account for it.
func TestUnbalancedNotConnected(t *testing.T) {
	if testkit.Unbalanced([]byte(brokerStatus), "192.0.2.1:3") == nil {
		t.Error("no error")
	}
}
