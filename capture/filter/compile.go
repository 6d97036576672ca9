package filter

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
)

// Link types for which programs can be made (tcpdump.org/linktypes.html).
const (
	linkEthernet = 1
	linkRaw      = 101
	linkIPv4     = 228
	linkIPv6     = 229
)

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherRARP = 0x8035
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100
	etherQinQ = 0x88a8
	etherOld  = 0x9100

	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
	protoFragment = 44
	protoICMPv6   = 58
	protoSCTP     = 132
)

const (
	// accept is what a program returns for a packet that matches: how much of it is wanted.
	accept = 256 << 10
	// maxProgram is the kernel's limit on instructions (BPF_MAXINSNS).
	maxProgram = 4096
)

// Options say what a program is for.
type Options struct {
	Link uint16 // link type of the packets; default Ethernet
	// Kernel says that the program runs in the Linux kernel, which removes the outer VLAN tag from
	// a packet before.
	Kernel bool
}

// Compile compiles an expression. The empty expression accepts everything.
func Compile(expression string, o Options) ([]bpf.RawInstruction, error) {
	if o.Link == 0 {
		o.Link = linkEthernet
	}
	c := &compiler{options: o}
	switch o.Link {
	case linkEthernet:
		c.network = 14
	case linkRaw, linkIPv4, linkIPv6:
	default:
		return nil, fmt.Errorf("filter: packets of link type %d cannot be filtered", o.Link)
	}
	yes, no := c.label(), c.label()
	if len(tokenize(expression)) > 0 {
		n, err := parse(expression, o.Kernel)
		if err != nil {
			return nil, fmt.Errorf("filter: %w", err)
		}
		c.node(n, yes, no)
	}
	c.bind(yes)
	c.emit(bpf.RetConstant{Val: accept})
	c.bind(no)
	c.emit(bpf.RetConstant{Val: 0})
	return c.assemble()
}

// label is a place in a program, which is known once it is bound.
type label int

// compiler makes a program. All jumps go forward. A condition skips one instruction or none, so
// that the distance to its label never exceeds the 8 bits it has.
type compiler struct {
	options Options
	network uint32 // offset of the network header without VLAN tags
	program []bpf.Instruction
	jumps   map[int]label // instruction, and where it jumps to
	labels  []int
}

func (c *compiler) label() label {
	c.labels = append(c.labels, -1)
	return label(len(c.labels) - 1)
}

func (c *compiler) bind(l label) { c.labels[l] = len(c.program) }

func (c *compiler) emit(in bpf.Instruction) { c.program = append(c.program, in) }

func (c *compiler) jump(l label) {
	if c.jumps == nil {
		c.jumps = map[int]label{}
	}
	c.jumps[len(c.program)] = l
	c.emit(bpf.Jump{})
}

func (c *compiler) assemble() ([]bpf.RawInstruction, error) {
	for at, l := range c.jumps {
		c.program[at] = bpf.Jump{Skip: uint32(c.labels[l] - at - 1)}
	}
	if len(c.program) > maxProgram {
		return nil, fmt.Errorf("filter: %d instructions, the limit is %d: use a shorter filter",
			len(c.program), maxProgram)
	}
	return bpf.Assemble(c.program)
}

// require goes on if the condition on register A holds, and to no otherwise.
func (c *compiler) require(cond bpf.JumpTest, value uint32, no label) {
	c.emit(bpf.JumpIf{Cond: cond, Val: value, SkipTrue: 1})
	c.jump(no)
}

// when goes to yes if the condition on register A holds, and goes on otherwise.
func (c *compiler) when(cond bpf.JumpTest, value uint32, yes label) {
	c.emit(bpf.JumpIf{Cond: cond, Val: value, SkipFalse: 1})
	c.jump(yes)
}

func (c *compiler) load(offset uint32, size int) {
	c.emit(bpf.LoadAbsolute{Off: offset, Size: size})
}

func (c *compiler) node(n node, yes, no label) {
	switch n := n.(type) {
	case and:
		mid := c.label()
		c.node(n.a, mid, no)
		c.bind(mid)
		c.node(n.b, yes, no)
	case or:
		mid := c.label()
		c.node(n.a, yes, mid)
		c.bind(mid)
		c.node(n.b, yes, no)
	case not:
		c.node(n.a, no, yes)
	case leaf:
		n.test.compile(c, c.network+n.shift, yes, no)
	}
}

// etherType requires an EtherType; net is the offset of the network header.
func (c *compiler) etherType(net, typ uint32, no label) {
	if c.options.Link == linkEthernet {
		c.load(net-2, 2)
		c.require(bpf.JumpEqual, typ, no)
		return
	}
	version := map[uint32]uint32{etherIPv4: 4, etherIPv6: 6}[typ]
	if version == 0 {
		c.jump(no)
		return
	}
	c.load(net, 1)
	c.emit(bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4})
	c.require(bpf.JumpEqual, version, no)
}

// test is a condition. net is the offset of the network header.
type test interface {
	compile(c *compiler, net uint32, yes, no label)
}

// protocolTest is a protocol by its name.
type protocolTest string

func (t protocolTest) compile(c *compiler, net uint32, yes, no label) {
	types := map[protocolTest]uint32{"ip": etherIPv4, "ip6": etherIPv6, "arp": etherARP,
		"rarp": etherRARP}
	if typ, ok := types[t]; ok {
		c.etherType(net, typ, no)
		c.jump(yes)
		return
	}
	switch t {
	case "icmp":
		protoTest{n: protoICMP}.compile(c, net, yes, no)
	case "icmp6":
		protoTest{v6: true, n: protoICMPv6}.compile(c, net, yes, no)
	default:
		n := map[protocolTest]uint32{"tcp": protoTCP, "udp": protoUDP, "sctp": protoSCTP}[t]
		v4 := c.label()
		protoTest{v6: true, n: n}.compile(c, net, yes, v4)
		c.bind(v4)
		protoTest{n: n}.compile(c, net, yes, no)
	}
}

// protoTest is a protocol above IP, by its number.
type protoTest struct {
	v6 bool
	n  uint32
}

func (t protoTest) compile(c *compiler, net uint32, yes, no label) {
	if !t.v6 {
		c.etherType(net, etherIPv4, no)
		c.load(net+9, 1)
		c.require(bpf.JumpEqual, t.n, no)
		c.jump(yes)
		return
	}
	// Like libpcap, look behind a fragment header and no other.
	c.etherType(net, etherIPv6, no)
	c.load(net+6, 1)
	c.when(bpf.JumpEqual, t.n, yes)
	c.require(bpf.JumpEqual, protoFragment, no)
	c.load(net+40, 1)
	c.require(bpf.JumpEqual, t.n, no)
	c.jump(yes)
}

// portTest is a port, or a range of ports.
type portTest struct {
	protos      []uint32
	first, last uint32
	dir         string
}

func (t portTest) compile(c *compiler, net uint32, yes, no label) {
	v4 := c.label()
	c.etherType(net, etherIPv6, v4)
	c.load(net+6, 1)
	t.proto(c, no)
	t.ports(c, func(offset uint32) { c.load(net+40+offset, 2) }, yes, no)
	c.bind(v4)
	c.etherType(net, etherIPv4, no)
	c.load(net+9, 1)
	t.proto(c, no)
	c.load(net+6, 2)
	c.require(bpf.JumpBitsNotSet, 0x1fff, no) // the first fragment
	c.emit(bpf.LoadMemShift{Off: net})        // the size of the IP header
	t.ports(c, func(offset uint32) { c.emit(bpf.LoadIndirect{Off: net + offset, Size: 2}) }, yes,
		no)
}

// proto requires one of the protocols in register A.
func (t portTest) proto(c *compiler, no label) {
	found := c.label()
	for _, n := range t.protos[1:] {
		c.when(bpf.JumpEqual, n, found)
	}
	c.require(bpf.JumpEqual, t.protos[0], no)
	c.bind(found)
}

func (t portTest) ports(c *compiler, load func(offset uint32), yes, no label) {
	direction(c, t.dir, yes, no, func(dst bool, no label) {
		offset := uint32(0)
		if dst {
			offset = 2
		}
		load(offset)
		c.require(bpf.JumpGreaterOrEqual, t.first, no)
		c.require(bpf.JumpLessOrEqual, t.last, no)
	})
}

// direction compiles one condition for source, destination, either or both of them.
func direction(c *compiler, dir string, yes, no label, require func(dst bool, no label)) {
	switch dir {
	case "src", "dst":
		require(dir == "dst", no)
	case "both":
		require(false, no)
		require(true, no)
	default:
		other := c.label()
		require(false, other)
		c.jump(yes)
		c.bind(other)
		require(true, no)
	}
	c.jump(yes)
}

// hostTest is an address or a network.
type hostTest struct {
	net   netip.Prefix
	dir   string
	proto string // "" for all that have such addresses
}

func (t hostTest) compile(c *compiler, net uint32, yes, no label) {
	if t.net.Addr().Is6() {
		c.etherType(net, etherIPv6, no)
		t.addresses(c, net+8, net+24, yes, no)
		return
	}
	// ARP has IPv4 addresses, too.
	kinds := []struct {
		name     string
		typ      uint32
		src, dst uint32
	}{{"ip", etherIPv4, 12, 16}, {"arp", etherARP, 14, 24}, {"rarp", etherRARP, 14, 24}}
	for _, k := range kinds {
		if t.proto != "" && t.proto != k.name {
			continue
		}
		other := c.label()
		c.etherType(net, k.typ, other)
		t.addresses(c, net+k.src, net+k.dst, yes, no)
		c.bind(other)
	}
	c.jump(no)
}

func (t hostTest) addresses(c *compiler, src, dst uint32, yes, no label) {
	addr := t.net.Addr().AsSlice()
	direction(c, t.dir, yes, no, func(isDst bool, no label) {
		at := src
		if isDst {
			at = dst
		}
		for i, bits := 0, t.net.Bits(); i < len(addr) && bits > 0; i, bits = i+4, bits-32 {
			mask := ^uint32(0)
			if bits < 32 {
				mask <<= 32 - bits
			}
			c.load(at+uint32(i), 4)
			if mask != ^uint32(0) {
				c.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
			}
			c.require(bpf.JumpEqual, binary.BigEndian.Uint32(addr[i:])&mask, no)
		}
	})
}

// etherTest is an Ethernet address.
type etherTest struct {
	mac [6]byte
	dir string
}

func (t etherTest) compile(c *compiler, _ uint32, yes, no label) {
	if c.options.Link != linkEthernet {
		c.jump(no)
		return
	}
	direction(c, t.dir, yes, no, func(dst bool, no label) {
		at := uint32(6)
		if dst {
			at = 0
		}
		c.load(at+2, 4)
		c.require(bpf.JumpEqual, binary.BigEndian.Uint32(t.mac[2:]), no)
		c.load(at, 2)
		c.require(bpf.JumpEqual, uint32(binary.BigEndian.Uint16(t.mac[:])), no)
	})
}

// vlanTest is a VLAN tag.
type vlanTest struct {
	kernel bool
	id     int // -1 for any
}

func (t vlanTest) compile(c *compiler, net uint32, yes, no label) {
	switch {
	case t.kernel:
		c.emit(bpf.LoadExtension{Num: bpf.ExtVLANTagPresent})
		c.require(bpf.JumpNotEqual, 0, no)
		if t.id >= 0 {
			c.emit(bpf.LoadExtension{Num: bpf.ExtVLANTag})
		}
	case c.options.Link != linkEthernet:
		c.jump(no)
		return
	default:
		found := c.label()
		c.load(net-2, 2)
		c.when(bpf.JumpEqual, etherVLAN, found)
		c.when(bpf.JumpEqual, etherQinQ, found)
		c.require(bpf.JumpEqual, etherOld, no)
		c.bind(found)
		if t.id >= 0 {
			c.load(net, 2)
		}
	}
	if t.id >= 0 {
		c.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff})
		c.require(bpf.JumpEqual, uint32(t.id), no)
	}
	c.jump(yes)
}

// lengthTest compares the length of the packet: at most or at least n.
type lengthTest struct {
	greater bool
	n       uint32
}

func (t lengthTest) compile(c *compiler, _ uint32, yes, no label) {
	cond := bpf.JumpLessOrEqual
	if t.greater {
		cond = bpf.JumpGreaterOrEqual
	}
	c.emit(bpf.LoadExtension{Num: bpf.ExtLen})
	c.require(cond, t.n, no)
	c.jump(yes)
}
