package pipeline

import (
	"fmt"
	"log/slog"
	"testing"
)

// A node that invents ids does not use up memory.
func TestSendersBounded(t *testing.T) {
	a := NewLedger(slog.New(slog.DiscardHandler))
	why := Drop(ReasonParts, "2 parts")
	for i := range maxSenders + 100 {
		a.Refuse(fmt.Appendf(nil, "node-%d", i), why)
	}
	a.Refuse(make([]byte, maxNodeID+1), why)
	st := a.Accounts()
	if len(st.Senders) > maxSenders+1 || st.Senders[0].Node != "" ||
		st.Senders[0].Dropped.Messages < 100 {
		t.Errorf("%d senders, the first is %+v", len(st.Senders), st.Senders[0])
	}
	checkAccounts(t, st)
}
