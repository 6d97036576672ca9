package rest

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

// Master makes the writes of a store that another process has: a replica.Clone.
type Master interface {
	Apply(ctx context.Context, who string, writes ...store.Write) (store.Applied, error)
}

// askTimeout is how long the master of a clone has to answer.
const askTimeout = 10 * time.Second

// ask has the master of a store make a write. The answer has the new value alone: the number of the
// change and its ETag come with it to the clone. A condition names one entry, or none.
func (r *request) ask(m Master, w store.Write, match, none string) error {
	switch {
	case match == "" && none == "*":
		w.IfSeq = store.NoEntry
	case match != "" && none == "":
		number, _, _ := strings.Cut(strings.Trim(match, `"`), "-")
		var err error
		if w.IfSeq, err = strconv.ParseUint(number, 10, 64); err != nil || len(tags(match)) != 1 {
			return errCondition
		}
	case match != "" || none != "":
		return errCondition
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	a, err := m.Apply(ctx, r.who(), w)
	switch {
	case err != nil:
		return err
	case !a.Done:
		return failf(http.StatusPreconditionFailed, "the condition of the request is not met")
	case a.Values[0].Kind() == event.None:
		r.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return r.reply(newEntry(&store.Entry{Key: r.key, Value: a.Values[0]}))
}

var errCondition = failf(http.StatusBadRequest, "at a clone, a condition is If-Match with one ETag, "+
	"or If-None-Match: *; send others to the master")

// askAll has the master of a store make a batch.
func (r *request) askAll(m Master, writes []store.Write) error {
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	a, err := m.Apply(ctx, r.who(), writes...)
	if err == nil && !a.Done {
		err = failf(http.StatusPreconditionFailed, "the condition of a write is not met")
	}
	if err != nil {
		return err
	}
	return r.reply(map[string]any{})
}
