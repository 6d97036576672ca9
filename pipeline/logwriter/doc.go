// Package logwriter lets a Go program log into a Zeek cluster. It makes log batches of structs and
// pushes them to the cluster's loggers, as Zeek's nodes do.
//
//	type Login struct {
//		TS   time.Time  `zeek:"ts"`
//		Host netip.Addr `zeek:"host"`
//		User string     `zeek:"user,optional"`
//	}
//
//	push := zmtp.NewPush(zmtp.Config{})
//	err := push.Connect("tcp://127.0.0.1:5557") // one of connect_log_endpoints
//	w, err := logwriter.New[Login](push, logwriter.Config{
//		Node: "sshd-1", Stream: "Login::LOG", Path: "login"})
//	err = w.Write(ctx, Login{time.Now(), host, "root"})
//	...
//	err = w.Close(ctx)       // gives the last batch to push
//	err = push.Shutdown(ctx) // sends what is queued
//
// # Columns
//
// Each exported field needs a tag `zeek:"name,option..."`, or `zeek:"-"` to be left out. The name
// may have any characters except a comma and control characters.
//
//	Go                                     Zeek      options
//	bool                                   bool
//	int, int8 ... int64                    int
//	uint, uint8 ... uint64                 count
//	float64, float32                       double    time, interval: float64 in seconds
//	time.Time                              time
//	time.Duration                          interval
//	string, []byte                         string    enum, file, func
//	netip.Addr                             addr
//	netip.Prefix                           subnet
//	Port                                   port
//	[]T of the above                       vector    set, vector; those of T
//	map[T]struct{}                         set       those of T; in any order
//	struct                                 record: its columns, "id.orig_h"
//
// A type that is defined from one of these, such as type State string, is treated alike. The fields
// of an embedded struct without a tag count as fields of the outer struct. The types pattern, any
// and opaque, and containers in containers, cannot be logged.
//
// A value is unset if it is a nil pointer, also one to a record or in a vector. With the option
// optional it is unset if it is the zero value, for slices and maps nil. The zero time.Time,
// netip.Addr and netip.Prefix are always unset. Pointers and the option optional give a column
// Zeek's attribute &optional.
//
// Nothing is truncated: the limits of Zeek's nodes on strings and containers, such as
// Log::default_max_field_string_bytes, do not apply.
//
// # The receiving side
//
// zmtpd's logger takes any stream and any columns. Zeek's own logger must know the stream, else it
// discards the batches: a script creates the stream with Log::create_stream and a record with the
// same columns, in the same order and of the same types.
//
// # Delivery
//
// Each record that Write has taken is sent once, in order, unless the error of the Writer's Close
// or of the socket's Shutdown says otherwise. ZeroMQ has no acknowledgements, so what is on its way
// when a connection breaks is lost. A Writer holds at most two batches. If the logger is slow or
// away, the socket's queue fills up (zmtp.Config.SendHWM, SendBytes), and then Write waits.
package logwriter
