package zeek

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// appendOne appends v with the function for its type.
func appendOne(dst []byte, v *Value) ([]byte, error) {
	switch {
	case v.Unset:
		return AppendUnsetValue(dst, v.Type), nil
	case v.Type == TypePort:
		return AppendPortValue(dst, uint16(v.Num), v.Proto)
	case v.Type == TypeAddr:
		return AppendAddrValue(dst, v.Addr)
	case v.Type == TypeSubnet:
		bits := int(v.Num)
		if v.Addr.Is4() {
			bits -= v4PrefixOffset
		}
		return AppendSubnetValue(dst, netip.PrefixFrom(v.Addr, bits))
	case v.Type == TypeString, v.Type == TypeEnum, v.Type == TypeFile, v.Type == TypeFunc:
		return AppendTextValue(dst, v.Type, []byte(v.Text))
	case !v.Type.isContainer():
		return AppendNumberValue(dst, v.Type, v.Num), nil
	}
	dst = AppendContainerValue(dst, v.Type, len(v.Elems))
	for i := range v.Elems {
		var err error
		if dst, err = appendOne(dst, &v.Elems[i]); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func TestAppendingValuesGivesBytesOfAppendBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySchema(t)
		records := make([][]Value, rapid.IntRange(0, 3).Draw(t, "records"))
		for i := range records {
			for _, f := range s.Fields {
				records[i] = append(records[i], anyValue(t, f))
			}
		}
		want, err := AppendBatch(nil, s, records)
		if err != nil {
			t.Fatal(err)
		}
		got, err := AppendSchema(nil, s)
		if err != nil {
			t.Fatal(err)
		}
		got = binary.BigEndian.AppendUint32(got, uint32(len(records)))
		for _, record := range records {
			for i := range record {
				if got, err = appendOne(got, &record[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("got %x\nwant %x", got, want)
		}
	})
}

// A refused value leaves dst unchanged.
func TestAppendValuesRefused(t *testing.T) {
	before := []byte("before")
	for name, f := range map[string]func([]byte) ([]byte, error){
		"protocol":          func(b []byte) ([]byte, error) { return AppendPortValue(b, 1, 4) },
		"negative protocol": func(b []byte) ([]byte, error) { return AppendPortValue(b, 1, -1) },
		"no address": func(b []byte) ([]byte,
			error) {
			return AppendAddrValue(b, netip.Addr{})
		},
		"zone": func(b []byte) ([]byte,
			error) {
			return AppendAddrValue(b, netip.MustParseAddr("fe80::1%eth0"))
		},
		"no subnet": func(b []byte) ([]byte,
			error) {
			return AppendSubnetValue(b, netip.Prefix{})
		},
		"long prefix": func(b []byte) ([]byte, error) {
			return AppendSubnetValue(b, netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 33))
		},
		"prefix as sent": func(b []byte) ([]byte, error) {
			return appendAtomic(b,
				&Value{Type: TypeSubnet, Num: math.MaxUint8 + 1, Addr: netip.IPv6Loopback()})
		},
		"schema": func(b []byte) ([]byte,
			error) {
			return AppendSchema(b, &Schema{Stream: "S::LOG", Writer: "W"})
		},
	} {
		if got, err := f(before); err == nil || string(got) != "before" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
