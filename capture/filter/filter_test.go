package filter

import (
	"encoding/binary"
	"errors"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/net/bpf"
	"pgregory.net/rapid"
)

// tcpdumpProgram returns the program that tcpdump makes of an expression, for Ethernet. The flag -O
// turns its optimizer off.
func tcpdumpProgram(t *testing.T, expression string, flags ...string) []bpf.RawInstruction {
	t.Helper()
	args := append(flags, "-ddd", "-y", "EN10MB", "-s", "262144", expression)
	out, err := exec.Command("tcpdump", args...).Output()
	if err != nil {
		t.Fatalf("tcpdump %q: %v", args, err)
	}
	var program []bpf.RawInstruction
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n")[1:] {
		var n [4]uint64
		for i, field := range strings.Fields(line) {
			if n[i], err = strconv.ParseUint(field, 10, 32); err != nil {
				t.Fatal(err)
			}
		}
		program = append(program, bpf.RawInstruction{Op: uint16(n[0]), Jt: uint8(n[1]),
			Jf: uint8(n[2]), K: uint32(n[3])})
	}
	return program
}

func machine(t testing.TB, program []bpf.RawInstruction) *bpf.VM {
	t.Helper()
	instructions, ok := bpf.Disassemble(program)
	if !ok {
		t.Fatalf("an instruction is not known: %v", program)
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

var expressions = []string{
	"ip", "ip6", "arp", "rarp", "tcp", "udp", "icmp", "icmp6", "sctp",
	"port 5555", "tcp port 5555", "udp port 53", "src port 5555", "tcp dst port 5556",
	"src and dst port 5555", "src or dst port 5555", "portrange 5555-5557",
	"tcp src portrange 5000-6000", "port 5555 or 5556 or 5557", "tcp port 5555 or 5556",
	"host 10.0.0.1", "src host 10.0.0.1", "dst 10.0.0.2", "ip host 10.0.0.1", "arp host 10.0.0.1",
	"net 10.0.0.0/8", "src net 10.0.0.0/24", "dst net 10.0.0.0/31", "net 0.0.0.0/0",
	"host 2001:db8::1", "net 2001:db8::/32", "src net 2001:db8::/33", "ip6 host 2001:db8::2",
	"ip proto 6", "ip6 proto 17", "less 100", "greater 100",
	"not tcp", "! port 5555", "tcp and not port 5555", "(tcp or udp) and host 10.0.0.1",
	"tcp and (port 5555 or 5556) and not host 10.0.0.1", "ip or ip6 and tcp",
	"vlan", "vlan 7", "vlan and tcp port 5555", "vlan 7 and host 10.0.0.1",
	"vlan and vlan 8 and port 5555", "not (vlan and tcp)",
	"ether host 02:00:00:00:00:01", "ether src 02:00:00:00:00:01",
	"host 10.0.0.1 and 10.0.0.2", "src host 10.0.0.1 and dst port 5555",
}

// packet draws a packet that has a chance to match.
func packet(t *rapid.T) []byte {
	macs := []net.HardwareAddr{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}
	mac := rapid.SampledFrom(macs)
	v4 := rapid.SampledFrom([]net.IP{{10, 0, 0, 1}, {10, 0, 0, 2}, {10, 9, 9, 9}, {192, 0, 2, 1}})
	v6 := rapid.SampledFrom([]net.IP{net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8::2"),
		net.ParseIP("2001:db8:8000::1"), net.ParseIP("2001:db9::1")})
	port := rapid.SampledFrom([]uint16{53, 5000, 5555, 5556, 5557, 6000, 40000})
	ether := &layers.Ethernet{SrcMAC: mac.Draw(t, "src mac"), DstMAC: mac.Draw(t, "dst mac")}
	all := []gopacket.SerializableLayer{ether}
	typ := rapid.SampledFrom([]layers.EthernetType{layers.EthernetTypeIPv4,
		layers.EthernetTypeIPv4, layers.EthernetTypeIPv6, layers.EthernetTypeARP, 0x8035,
		0x1234}).Draw(t, "type")
	next := &ether.EthernetType
	for range rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "tags") {
		*next = rapid.SampledFrom([]layers.EthernetType{layers.EthernetTypeDot1Q,
			layers.EthernetTypeQinQ, 0x9100}).Draw(t, "tag type")
		tag := &layers.Dot1Q{VLANIdentifier: rapid.SampledFrom([]uint16{7, 8, 4095}).
			Draw(t, "vlan")}
		all, next = append(all, tag), &tag.Type
	}
	*next = typ
	proto := rapid.SampledFrom([]layers.IPProtocol{1, 6, 6, 17, 58, 132, 44, 0}).Draw(t, "proto")
	ports := binary.BigEndian.AppendUint16(nil, port.Draw(t, "src port"))
	ports = binary.BigEndian.AppendUint16(ports, port.Draw(t, "dst port"))
	payload := gopacket.Payload(append(ports, make([]byte,
		rapid.SampledFrom([]int{0, 16, 200}).Draw(t, "size"))...))
	switch typ {
	case layers.EthernetTypeIPv4:
		ip := &layers.IPv4{Version: 4, TTL: 9, Protocol: proto, SrcIP: v4.Draw(t, "src"),
			DstIP: v4.Draw(t, "dst"), FragOffset: rapid.SampledFrom([]uint16{0, 0, 5}).
				Draw(t, "offset")}
		if rapid.Bool().Draw(t, "options") {
			ip.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1},
				{OptionType: 0}}
		}
		all = append(all, ip)
	case layers.EthernetTypeIPv6:
		all = append(all, &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: proto,
			SrcIP: v6.Draw(t, "src"), DstIP: v6.Draw(t, "dst")})
		if proto == 44 {
			all = append(all, gopacket.Payload([]byte{rapid.SampledFrom([]byte{6, 17}).
				Draw(t, "behind"), 0, 0, 0, 0, 0, 0, 0}))
		}
	case layers.EthernetTypeARP, 0x8035:
		all = append(all, &layers.ARP{AddrType: 1, Protocol: 0x0800, HwAddressSize: 6,
			ProtAddressSize: 4, Operation: 1, SourceHwAddress: macs[0], DstHwAddress: macs[1],
			SourceProtAddress: v4.Draw(t, "src"), DstProtAddress: v4.Draw(t, "dst")})
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true},
		append(all, payload)...); err != nil {
		t.Fatal(err)
	}
	out := b.Bytes()
	if rapid.IntRange(0, 9).Draw(t, "cut") == 0 {
		out = out[:rapid.IntRange(1, len(out)).Draw(t, "length")]
	}
	return out
}

// A program accepts the packets that tcpdump's program for the same expression accepts. A packet
// that ends within a field is rejected as soon as the field is loaded, so the order of the loads
// counts, and tcpdump's optimizer changes the order: either answer is right then.
func TestSameAsTcpdump(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Fatal("tcpdump is missing: apt-get install tcpdump")
	}
	type trio struct{ ours, optimized, plain *bpf.VM }
	machines := make([]trio, len(expressions))
	for i, e := range expressions {
		program, err := Compile(e, Options{})
		if err != nil {
			t.Fatalf("%s: %v", e, err)
		}
		machines[i] = trio{machine(t, program), machine(t, tcpdumpProgram(t, e)),
			machine(t, tcpdumpProgram(t, e, "-O"))}
	}
	matched := make([]int, len(expressions))
	rapid.Check(t, func(t *rapid.T) {
		for range 20 {
			p := packet(t)
			for i, m := range machines {
				ours, err := m.ours.Run(p)
				optimized, err2 := m.optimized.Run(p)
				plain, err3 := m.plain.Run(p)
				if err := errors.Join(err, err2, err3); err != nil {
					t.Fatalf("%s: %v; packet %x", expressions[i], err, p)
				}
				if (ours > 0) != (optimized > 0) && (ours > 0) != (plain > 0) {
					t.Fatalf("%s: %d; tcpdump: %d, without optimizer %d; packet %x",
						expressions[i], ours, optimized, plain, p)
				}
				if ours > 0 {
					matched[i]++
				}
			}
		}
	})
	for i, n := range matched {
		if n == 0 {
			t.Logf("%s matched no packet", expressions[i])
		}
	}
}

func TestErrors(t *testing.T) {
	for _, e := range []string{"tcp and", "port", "port x", "port 70000", "portrange 5", "host",
		"host example.com", "net 10.0.0.1/8", "(tcp", "tcp)", "5555", "frobnicate", "icmp port 5",
		"ip host 2001:db8::1", "ip6 host 10.0.0.1", "vlan 5000", "ether 1", "tcp host 10.0.0.1",
		strings.Repeat("(", 200), strings.Repeat("tcp and ", 2000) + "tcp"} {
		if program, err := Compile(e, Options{}); err == nil {
			t.Errorf("%.40s: %d instructions", e, len(program))
		}
	}
	for _, e := range []string{"", "  ", "vlan 7 and port 5555"} {
		if _, err := Compile(e, Options{Kernel: true}); err != nil {
			t.Errorf("%s: %v", e, err)
		}
	}
}
