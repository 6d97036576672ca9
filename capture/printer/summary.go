package printer

import (
	"encoding/json"
	"fmt"
	"time"

	"zmtpd/capture"
	"zmtpd/capture/cluster"
)

// Summary prints what was found. There is no TSV of it: it is printed as text.
func (w *Writer) Summary(sum cluster.Summary, stats capture.Stats) error {
	if w.format == JSON {
		return json.NewEncoder(w.w).Encode(summaryJSON(sum, stats))
	}
	fmt.Fprintf(w.w, "%d packets, %d ZMTP sessions, %d other TCP connections, %d messages",
		stats.Packets, stats.Sessions, stats.OtherSessions+stats.NoStart, stats.Messages)
	if d := sum.Last.Sub(sum.First); d > 0 {
		fmt.Fprintf(w.w, " in %v", d.Round(time.Millisecond))
	}
	fmt.Fprintln(w.w)
	for _, n := range []struct {
		n    uint64
		what string
	}{{stats.Encrypted, "encrypted frames whose key is not known"},
		{stats.Gaps, fmt.Sprintf("gaps, of %d bytes in all", stats.MissingBytes)},
		{stats.Truncated, "packets that were not captured whole"},
		{stats.Skipped, "packets that are no TCP"},
		{sum.Malformed, "malformed messages of Zeek"}} {
		if n.n > 0 {
			fmt.Fprintf(w.w, "%d %s\n", n.n, n.what)
		}
	}
	w.named("Nodes", sum.Nodes)
	w.named("Logs", sum.Logs)
	w.named("Events", sum.Events)
	w.named("Topics", sum.Topics)
	if len(sum.Membership) > 0 {
		fmt.Fprintf(w.w, "\n%s\n", w.paint("Membership", colorCyan))
	}
	for _, m := range sum.Membership {
		what := "got hello from"
		if m.Down {
			what = "saw the end of"
		}
		fmt.Fprintf(w.w, "  %s %s %s %s\n", m.Time.In(w.zone).Format("15:04:05.000000"),
			printable([]byte(m.Node)), what, printable([]byte(m.Of)))
	}
	for _, b := range sum.Brokers {
		fmt.Fprintf(w.w, "\n%s %s: %d events in, %d out, %d lost; latency p50 %v, p99 %v, max %v\n",
			w.paint("Broker", colorCyan), b.Address, b.In, b.Out, b.Lost, b.P50, b.P99, b.Max)
	}
	return w.sessions(sum)
}

// maxListed bounds the names of a kind that a summary lists as text.
const maxListed = 50

func (w *Writer) named(title string, list []cluster.Named) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w.w, "\n%s\n  %10s %12s %10s %10s %14s  name\n", w.paint(title, colorCyan),
		"messages", "bytes", "records", "per s", "largest gap")
	for i, n := range list {
		if i == maxListed {
			fmt.Fprintf(w.w, "  and %d more\n", len(list)-i)
			break
		}
		fmt.Fprintf(w.w, "  %10d %12d %10d %10.2f %14v  %s\n", n.Messages, n.Bytes, n.Records,
			n.Rate(), n.Gap.Round(time.Microsecond), printable([]byte(n.Name)))
	}
}

// sessions prints the sessions, with what makes a peer slow.
func (w *Writer) sessions(sum cluster.Summary) error {
	fmt.Fprintf(w.w, "\n%s\n", w.paint("Sessions", colorCyan))
	for i, s := range sum.Sessions {
		if i == maxListed {
			fmt.Fprintf(w.w, "  and %d more\n", len(sum.Sessions)-i)
			break
		}
		fmt.Fprintf(w.w, "  %d: %s %s -> %s %s: %d and %d messages", s.ID,
			printable([]byte(s.FromClient.Type)),
			s.Client, printable([]byte(s.FromServer.Type)), s.Server,
			s.ClientSent.Messages, s.ServerSent.Messages)
		if s.Node != "" {
			fmt.Fprintf(w.w, ", node %s", printable([]byte(s.Node)))
		}
		if s.Lost > 0 {
			fmt.Fprint(w.w, w.paint(fmt.Sprintf(", %d events did not come out", s.Lost), colorRed))
		}
		if s.Err != nil {
			fmt.Fprint(w.w, w.paint(", "+printable([]byte(s.Err.Error())), colorRed))
		}
		fmt.Fprintln(w.w)
		w.slow("client", s.FromClient, sum.Last)
		w.slow("server", s.FromServer, sum.Last)
	}
	if n := sum.Skipped; n > 0 {
		fmt.Fprintf(w.w, "  and %d that are not kept\n", n)
	}
	return nil
}

// slow prints why a peer is slow.
func (w *Writer) slow(who string, p capture.Peer, now time.Time) {
	if p.ZeroWindows > 0 {
		closed := p.ZeroTime
		if !p.ZeroSince.IsZero() {
			closed += now.Sub(p.ZeroSince)
		}
		fmt.Fprintf(w.w, "     %s\n", w.paint(fmt.Sprintf("the %s does not read fast enough: its "+
			"window was closed %d times, for %v in all, since %s", who, p.ZeroWindows, closed,
			p.FirstZero.In(w.zone).Format("15:04:05.000000")), colorRed))
	}
	if p.Retransmitted > 0 {
		fmt.Fprintf(w.w, "     the %s sent %d segments again, %d bytes\n", who, p.Retransmitted,
			p.RetransmittedBytes)
	}
}

// object is a JSON object.
type object map[string]any

// summaryJSON returns a summary for JSON: durations in seconds, reasons and errors as text.
func summaryJSON(sum cluster.Summary, stats capture.Stats) object {
	named := func(list []cluster.Named) []object {
		out := make([]object, len(list))
		for i, n := range list {
			out[i] = countsJSON(n.Counts)
			out[i]["name"] = printable([]byte(n.Name))
		}
		return out
	}
	var sessions, members, brokers []object
	for _, s := range sum.Sessions {
		o := object{"session": s.ID, "node": printable([]byte(s.Node)),
			"client": peerJSON(s.Client.String(), s.FromClient, s.ClientSent),
			"server": peerJSON(s.Server.String(), s.FromServer, s.ServerSent),
			"closed": s.Closed.String(), "lost": s.Lost}
		if s.Err != nil {
			o["error"] = printable([]byte(s.Err.Error()))
		}
		sessions = append(sessions, o)
	}
	for _, m := range sum.Membership {
		members = append(members, object{"ts": m.Time, "node": printable([]byte(m.Node)),
			"of": printable([]byte(m.Of)), "of_id": printable([]byte(m.OfID)), "down": m.Down})
	}
	for _, b := range sum.Brokers {
		brokers = append(brokers, object{"address": b.Address, "in": b.In, "out": b.Out,
			"unknown": b.Unknown, "lost": b.Lost, "latency_p50": b.P50.Seconds(),
			"latency_p99": b.P99.Seconds(), "latency_max": b.Max.Seconds()})
	}
	return object{"kind": "summary", "first": sum.First, "last": sum.Last,
		"packets": stats.Packets, "skipped_packets": stats.Skipped,
		"truncated_packets": stats.Truncated, "zmtp_sessions": stats.Sessions,
		"other_sessions": stats.OtherSessions, "sessions_without_start": stats.NoStart,
		"messages": stats.Messages, "encrypted": stats.Encrypted, "gaps": stats.Gaps,
		"missing_bytes": stats.MissingBytes, "malformed": sum.Malformed,
		"nodes": named(sum.Nodes), "topics": named(sum.Topics), "events": named(sum.Events),
		"logs": named(sum.Logs), "membership": members, "brokers": brokers,
		"sessions": sessions, "sessions_not_kept": sum.Skipped}
}

func countsJSON(c cluster.Counts) object {
	return object{"messages": c.Messages, "bytes": c.Bytes, "records": c.Records,
		"first": c.First, "last": c.Last, "per_second": c.Rate(), "largest_gap": c.Gap.Seconds()}
}

func peerJSON(address string, p capture.Peer, sent cluster.Counts) object {
	o := countsJSON(sent)
	o["address"], o["socket_type"] = address, printable([]byte(p.Type))
	o["packets"], o["tcp_bytes"] = p.Packets, p.Bytes
	o["retransmitted"], o["retransmitted_bytes"] = p.Retransmitted, p.RetransmittedBytes
	o["out_of_order"], o["zero_windows"] = p.OutOfOrder, p.ZeroWindows
	o["zero_window_time"] = p.ZeroTime.Seconds()
	if !p.FirstZero.IsZero() {
		o["first_zero_window"] = p.FirstZero
	}
	return o
}
