package curve

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"

	"golang.org/x/crypto/nacl/secretbox"
	//lint:ignore SA1019 box.Precompute accepts keys of low order; with ecdh only HSalsa20 is left
	"golang.org/x/crypto/salsa20/salsa"

	"zmtpd/zmtp/wire"
)

// The handshake (RFC 26). C and c are the client's long-term public and secret key, S and s those
// of the server; C', c', S' and s' are the keys of the connection. [text](X→Y) is a crypto_box from
// the holder of x to the holder of y. Numbers are sizes in bytes. libzmq puts the length of a name
// in front of it, where RFC 26 pads the name.
//
//	client                                                                server
//	HELLO     05 HELLO, version 2, zeros 72, C', nonce 8, [zeros 64](C'→S)   →
//	       ←  07 WELCOME, nonce 16, [S', cookie 96](S→C')
//	          cookie: nonce 16, secretbox of C', s'
//	INITIATE  08 INITIATE, cookie, nonce 8, [C, vouch 96, metadata](C'→S')   →
//	          vouch: nonce 16, [C', S](C→S')
//	       ←  05 READY, nonce 8, [metadata](S'→C'), or ERROR in clear
const (
	cmdHello    = "\x05HELLO"
	cmdWelcome  = "\x07WELCOME"
	cmdInitiate = "\x08INITIATE"
	cmdReady    = "\x05READY"

	boxOverhead = secretbox.Overhead
	shortNonce  = 8
	longNonce   = 16
	cookieSize  = longNonce + boxOverhead + 2*KeySize
	vouchSize   = longNonce + boxOverhead + 2*KeySize

	helloZeros   = 72
	helloKey     = len(cmdHello) + 2 + helloZeros
	helloNonce   = helloKey + KeySize
	helloBox     = helloNonce + shortNonce
	helloText    = 64
	helloSize    = helloBox + boxOverhead + helloText
	welcomeNonce = len(cmdWelcome)
	welcomeBox   = welcomeNonce + longNonce
	welcomeSize  = welcomeBox + boxOverhead + KeySize + cookieSize

	initiateCookie = len(cmdInitiate)
	initiateNonce  = initiateCookie + cookieSize
	initiateBox    = initiateNonce + shortNonce
	initiateSize   = initiateBox + boxOverhead + KeySize + vouchSize // without metadata
	readyNonce     = len(cmdReady)
	readyBox       = readyNonce + shortNonce
	readySize      = readyBox + boxOverhead // without metadata

	// Prefixes of the nonces: 8 bytes with a long nonce, 16 with a short one.
	nonceHello    = "CurveZMQHELLO---"
	nonceWelcome  = "WELCOME-"
	nonceCookie   = "COOKIE--"
	nonceVouch    = "VOUCH---"
	nonceInitiate = "CurveZMQINITIATE"
	nonceReady    = "CurveZMQREADY---"
)

const (
	// maxPlainCommand bounds a frame of a peer that has not yet shown that it knows our key, in
	// bytes. HELLO, WELCOME and the longest ERROR are smaller.
	maxPlainCommand = 512
	// maxCommand bounds INITIATE and READY, which contain metadata, in bytes.
	maxCommand = 64 << 10
)

// boxKey is the key of the crypto_box between two key pairs, the result of crypto_box_beforenm.
type boxKey [32]byte

// newBoxKey multiplies on the curve once. It refuses public keys of low order, with which all
// secret keys have the same shared secret.
func newBoxKey(secret *ecdh.PrivateKey, public []byte) (*boxKey, error) {
	p, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		panic(err) // 32 bytes are always a key
	}
	shared, err := secret.ECDH(p)
	if err != nil {
		return nil, wire.Errorf(wire.Cryptographic, "a public key of low order")
	}
	k := (*boxKey)(shared)
	salsa.HSalsa20((*[32]byte)(k), new([16]byte), (*[32]byte)(k), &salsa.Sigma)
	return k, nil
}

// seal appends the box of text. prefix and nonce have 24 bytes together.
func (k *boxKey) seal(dst []byte, prefix string, nonce, text []byte) []byte {
	return secretbox.Seal(dst, text, boxNonce(prefix, nonce), (*[32]byte)(k))
}

// open returns the text of a box.
func (k *boxKey) open(prefix string, nonce, box []byte) ([]byte, bool) {
	return secretbox.Open(nil, box, boxNonce(prefix, nonce), (*[32]byte)(k))
}

func boxNonce(prefix string, nonce []byte) *[24]byte {
	var n [24]byte
	copy(n[copy(n[:], prefix):], nonce)
	return &n
}

// appendCommand appends a command frame. name includes its length.
func appendCommand(dst []byte, name string, data []byte) []byte {
	return wire.AppendCommand(dst, name[1:], data)
}

func appendNonce(dst []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(dst, n) }

// random fills secrets and nonces with random bytes; in tests, with recorded ones.
type random func([]byte)

func systemRandom(b []byte) { rand.Read(b) } // never fails

// bytes draws n bytes.
func (r random) bytes(n int) []byte {
	b := make([]byte, n)
	r(b)
	return b
}

// privateKey converts 32 bytes, which are always a valid key.
func privateKey(b []byte) *ecdh.PrivateKey {
	k, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		panic(err)
	}
	return k
}

// state is the state of one side of the handshake. An error leads to ended, in which nothing is
// accepted.
type state uint8

const (
	start        state = iota
	wantHello          // server
	wantWelcome        // client
	wantTurn           // server: the limiter is asked
	wantInitiate       // server
	wantReady          // client
	wantAnswer         // server: the authenticator is asked
	ready
	ended
)

func (s state) String() string {
	return [...]string{"start", "HELLO", "WELCOME", "the limiter", "INITIATE", "READY",
		"authentication", "ready", "ended"}[s]
}

func unexpected(name []byte, s state) error {
	return wire.Errorf(wire.UnexpectedCommand, "%.16q in the CURVE handshake at %s", name, s)
}
