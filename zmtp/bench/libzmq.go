package main

/*
#cgo LDFLAGS: -lzmq -lpthread
#include <stdlib.h>
#include <zmq.h>
#include "libzmq.h"

static long long received_so_far(void) { return received; }
*/
import "C"

import (
	"time"
	"unsafe"
)

// libzmq is libzmq itself, with loops in C.
type libzmq struct{}

var cTypes = map[string]C.int{"PUSH": C.ZMQ_PUSH, "PULL": C.ZMQ_PULL, "PUB": C.ZMQ_PUB,
	"SUB": C.ZMQ_SUB, "REQ": C.ZMQ_REQ, "REP": C.ZMQ_REP, "DEALER": C.ZMQ_DEALER,
	"ROUTER": C.ZMQ_ROUTER}

func (libzmq) open(kind string) socket {
	s := cSocket{C.open_socket(cTypes[kind], C.int(hwm()))}
	if kind == "SUB" {
		C.subscribe_all(s.p)
	}
	return s
}

func (libzmq) send(to []socket, size int) {
	all := make([]unsafe.Pointer, len(to))
	for i, s := range to {
		all[i] = s.(cSocket).p
	}
	C.start_sending(&all[0], C.int(len(all)), C.size_t(size))
}

func (libzmq) receive(s socket)  { C.start_receiving(s.(cSocket).p) }
func (libzmq) echo(s socket)     { C.start_echoing(s.(cSocket).p) }
func (libzmq) received() float64 { return float64(C.received_so_far()) }

func (libzmq) roundTrips(s socket, size, n int) []time.Duration {
	all := make([]time.Duration, n)
	C.round_trips(s.(cSocket).p, C.size_t(size), (*C.longlong)(unsafe.Pointer(&all[0])), C.int(n))
	return all
}

type cSocket struct{ p unsafe.Pointer }

func (s cSocket) listen(endpoint string) string {
	e := C.CString(endpoint)
	defer C.free(unsafe.Pointer(e))
	var bound [256]C.char
	C.listen_at(s.p, e, &bound[0], C.size_t(len(bound)))
	return C.GoString(&bound[0])
}

func (s cSocket) connect(endpoint string) {
	e := C.CString(endpoint)
	defer C.free(unsafe.Pointer(e))
	C.connect_to(s.p, e)
}
