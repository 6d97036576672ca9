// Package filter compiles filter expressions of libpcap (pcap-filter) to classic BPF, without
// libpcap. It knows the primitives that select traffic by protocol, address and port:
//
//	ip ip6 arp rarp tcp udp icmp icmp6 sctp
//	[tcp|udp|sctp] [src|dst|src or dst|src and dst] port N, portrange N-M
//	[ip|ip6|arp|rarp] [src|dst|...] host ADDRESS, net ADDRESS/BITS
//	ip proto N, ip6 proto N
//	ether [src|dst] host MAC
//	vlan [ID]
//	less N, greater N
//	and (&&), or (||), not (!), parentheses; "port 80 or 443" repeats "port"
//
// A program accepts the same packets as that of libpcap. Names of hosts and services are not
// resolved.
package filter
