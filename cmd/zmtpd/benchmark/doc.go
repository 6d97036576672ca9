// Package benchmark measures throughput, latency and connection set-up between two processes.
//
// The far side is a ROUTER ([Serve]), the near side, which measures, a DEALER ([Run]). The first
// byte of a message says what the far side does with it: it sends a message that begins with 'e'
// back, and drops all others. The far side keeps no state. A message that comes back shows that
// everything before it on the same connection has arrived.
package benchmark
