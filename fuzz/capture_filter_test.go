package fuzz_test

import (
	"testing"

	"golang.org/x/net/bpf"

	"zmtpd/capture/filter"
)

func init() {
	corpora["FuzzFilter"] = func(testing.TB) (all [][]byte) {
		for _, s := range []string{"tcp port 5555 or 5556", "vlan 7 and src net 10.0.0.0/8",
			"not (ip6 host 2001:db8::1 and portrange 1-2)", "ether src host 02:00:00:00:00:01",
			"less 100 || greater 1000 && ! arp", "src or dst port 5555", "ip proto 6"} {
			all = append(all, []byte(s))
		}
		return all
	}
}

// Whatever the expression, it is refused or becomes a program that ends and stays within its
// bounds.
func FuzzFilter(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, expression []byte) {
		for _, o := range []filter.Options{{}, {Kernel: true}, {Link: 101}} {
			program, err := filter.Compile(string(expression), o)
			if err != nil {
				continue
			}
			instructions, ok := bpf.Disassemble(program)
			if !ok {
				t.Fatalf("an instruction is not known: %v", program)
			}
			if o.Kernel {
				continue // the machine does not know VLAN tags beside the packet
			}
			vm, err := bpf.NewVM(instructions)
			if err != nil {
				t.Fatalf("%q: %v", expression, err)
			}
			for _, size := range []int{1, 14, 34, 60, 200} {
				if _, err := vm.Run(make([]byte, size)); err != nil {
					t.Fatalf("%q: %v", expression, err)
				}
			}
		}
	})
}
