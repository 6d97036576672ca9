#include "textflag.h"
#include "go_asm.h"

// Salsa20/20 for 16 blocks, one 32-bit lane of a ZMM register each.
//
// Z0 to Z15   word 0 to 15 of the state, of all 16 blocks
// Z16 to Z19  words 6 to 9 as they were before the rounds: nonce and block number
// Z20 to Z23  temporaries of the rounds; Z16 to Z31 of the transposition
//
// Word 0, 5, 10, 15 are the constant and 1 to 4, 11 to 14 the key, for all blocks the same: they are broadcast from memory.

// STEP is b ^= (a + d) <<< n for one word of each of the four quarter rounds, which do not depend on each other.
#define STEP(n, a0, d0, b0, a1, d1, b1, a2, d2, b2, a3, d3, b3) \
	VPADDD a0, d0, Z20   \
	VPADDD a1, d1, Z21   \
	VPADDD a2, d2, Z22   \
	VPADDD a3, d3, Z23   \
	VPROLD $n, Z20, Z20  \
	VPROLD $n, Z21, Z21  \
	VPROLD $n, Z22, Z22  \
	VPROLD $n, Z23, Z23  \
	VPXORD Z20, b0, b0   \
	VPXORD Z21, b1, b1   \
	VPXORD Z22, b2, b2   \
	VPXORD Z23, b3, b3

// TRANSPOSE4 turns four words of 16 blocks into their rows of four words: after it, the 128-bit part j of the
// s-th register has the four words of block 4j+s.
#define TRANSPOSE4(a, b, c, d) \
	VPUNPCKLDQ  b, a, Z20     \
	VPUNPCKHDQ  b, a, Z21     \
	VPUNPCKLDQ  d, c, Z22     \
	VPUNPCKHDQ  d, c, Z23     \
	VPUNPCKLQDQ Z22, Z20, a   \
	VPUNPCKHQDQ Z22, Z20, b   \
	VPUNPCKLQDQ Z23, Z21, c   \
	VPUNPCKHQDQ Z23, Z21, d

// STORE4 writes the blocks s, 4+s, 8+s and 12+s, of which a, b, c, d have the first, second, third, fourth row.
#define STORE4(s, a, b, c, d) \
	VSHUFI32X4 $0x44, b, a, Z20                            \
	VSHUFI32X4 $0x44, d, c, Z21                            \
	VSHUFI32X4 $0xee, b, a, Z22                            \
	VSHUFI32X4 $0xee, d, c, Z23                            \
	VSHUFI32X4 $0x88, Z21, Z20, Z24                        \
	VSHUFI32X4 $0xdd, Z21, Z20, Z25                        \
	VSHUFI32X4 $0x88, Z23, Z22, Z26                        \
	VSHUFI32X4 $0xdd, Z23, Z22, Z27                        \
	VMOVDQU32  Z24, (lanes_stream+64*(0+s))(DX)            \
	VMOVDQU32  Z25, (lanes_stream+64*(4+s))(DX)            \
	VMOVDQU32  Z26, (lanes_stream+64*(8+s))(DX)            \
	VMOVDQU32  Z27, (lanes_stream+64*(12+s))(DX)

// The low halves of 16 quadwords, and the high halves.
DATA lowHalves<>+0x00(SB)/8, $0x0000000200000000
DATA lowHalves<>+0x08(SB)/8, $0x0000000600000004
DATA lowHalves<>+0x10(SB)/8, $0x0000000a00000008
DATA lowHalves<>+0x18(SB)/8, $0x0000000e0000000c
DATA lowHalves<>+0x20(SB)/8, $0x0000001200000010
DATA lowHalves<>+0x28(SB)/8, $0x0000001600000014
DATA lowHalves<>+0x30(SB)/8, $0x0000001a00000018
DATA lowHalves<>+0x38(SB)/8, $0x0000001e0000001c
GLOBL lowHalves<>(SB), RODATA|NOPTR, $64

DATA highHalves<>+0x00(SB)/8, $0x0000000300000001
DATA highHalves<>+0x08(SB)/8, $0x0000000700000005
DATA highHalves<>+0x10(SB)/8, $0x0000000b00000009
DATA highHalves<>+0x18(SB)/8, $0x0000000f0000000d
DATA highHalves<>+0x20(SB)/8, $0x0000001300000011
DATA highHalves<>+0x28(SB)/8, $0x0000001700000015
DATA highHalves<>+0x30(SB)/8, $0x0000001b00000019
DATA highHalves<>+0x38(SB)/8, $0x0000001f0000001d
GLOBL highHalves<>(SB), RODATA|NOPTR, $64

// func fillAVX512(l *lanes, k *key)
TEXT ·fillAVX512(SB), NOSPLIT, $0-16
	MOVQ l+0(FP), DX
	MOVQ k+8(FP), SI
	LEAQ ·sigma(SB), DI

	VMOVDQU32 lowHalves<>(SB), Z16
	VMOVDQU32 Z16, Z18
	VMOVDQU32 highHalves<>(SB), Z17
	VMOVDQU32 Z17, Z19
	VMOVDQU32 lanes_nonce(DX), Z20
	VMOVDQU32 (lanes_nonce+64)(DX), Z21
	VMOVDQU32 lanes_number(DX), Z22
	VMOVDQU32 (lanes_number+64)(DX), Z23
	VPERMI2D  Z21, Z20, Z16
	VPERMI2D  Z21, Z20, Z17
	VPERMI2D  Z23, Z22, Z18
	VPERMI2D  Z23, Z22, Z19

	VPBROADCASTD 0(DI), Z0
	VPBROADCASTD 0(SI), Z1
	VPBROADCASTD 4(SI), Z2
	VPBROADCASTD 8(SI), Z3
	VPBROADCASTD 12(SI), Z4
	VPBROADCASTD 4(DI), Z5
	VMOVDQA32    Z16, Z6
	VMOVDQA32    Z17, Z7
	VMOVDQA32    Z18, Z8
	VMOVDQA32    Z19, Z9
	VPBROADCASTD 8(DI), Z10
	VPBROADCASTD 16(SI), Z11
	VPBROADCASTD 20(SI), Z12
	VPBROADCASTD 24(SI), Z13
	VPBROADCASTD 28(SI), Z14
	VPBROADCASTD 12(DI), Z15

	MOVL $10, CX

doubleround:
	// The columns.
	STEP(7, Z0, Z12, Z4, Z5, Z1, Z9, Z10, Z6, Z14, Z15, Z11, Z3)
	STEP(9, Z4, Z0, Z8, Z9, Z5, Z13, Z14, Z10, Z2, Z3, Z15, Z7)
	STEP(13, Z8, Z4, Z12, Z13, Z9, Z1, Z2, Z14, Z6, Z7, Z3, Z11)
	STEP(18, Z12, Z8, Z0, Z1, Z13, Z5, Z6, Z2, Z10, Z11, Z7, Z15)

	// The rows.
	STEP(7, Z0, Z3, Z1, Z5, Z4, Z6, Z10, Z9, Z11, Z15, Z14, Z12)
	STEP(9, Z1, Z0, Z2, Z6, Z5, Z7, Z11, Z10, Z8, Z12, Z15, Z13)
	STEP(13, Z2, Z1, Z3, Z7, Z6, Z4, Z8, Z11, Z9, Z13, Z12, Z14)
	STEP(18, Z3, Z2, Z0, Z4, Z7, Z5, Z9, Z8, Z10, Z14, Z13, Z15)

	DECL CX
	JNZ  doubleround

	VPADDD.BCST 0(DI), Z0, Z0
	VPADDD.BCST 0(SI), Z1, Z1
	VPADDD.BCST 4(SI), Z2, Z2
	VPADDD.BCST 8(SI), Z3, Z3
	VPADDD.BCST 12(SI), Z4, Z4
	VPADDD.BCST 4(DI), Z5, Z5
	VPADDD      Z16, Z6, Z6
	VPADDD      Z17, Z7, Z7
	VPADDD      Z18, Z8, Z8
	VPADDD      Z19, Z9, Z9
	VPADDD.BCST 8(DI), Z10, Z10
	VPADDD.BCST 16(SI), Z11, Z11
	VPADDD.BCST 20(SI), Z12, Z12
	VPADDD.BCST 24(SI), Z13, Z13
	VPADDD.BCST 28(SI), Z14, Z14
	VPADDD.BCST 12(DI), Z15, Z15

	TRANSPOSE4(Z0, Z1, Z2, Z3)
	TRANSPOSE4(Z4, Z5, Z6, Z7)
	TRANSPOSE4(Z8, Z9, Z10, Z11)
	TRANSPOSE4(Z12, Z13, Z14, Z15)
	STORE4(0, Z0, Z4, Z8, Z12)
	STORE4(1, Z1, Z5, Z9, Z13)
	STORE4(2, Z2, Z6, Z10, Z14)
	STORE4(3, Z3, Z7, Z11, Z15)
	VZEROUPPER
	RET

// func xorAVX512(dst, src, stream *byte, n int)
//
// The last bytes go under a mask, which keeps the processor from touching what is beyond them.
TEXT ·xorAVX512(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ stream+16(FP), DX
	MOVQ n+24(FP), CX

loop:
	CMPQ      CX, $64
	JLT       tail
	VMOVDQU64 (SI), Z0
	VPXORQ    (DX), Z0, Z0
	VMOVDQU64 Z0, (DI)
	ADDQ      $64, SI
	ADDQ      $64, DX
	ADDQ      $64, DI
	SUBQ      $64, CX
	JMP       loop

tail:
	TESTQ       CX, CX
	JEQ         done
	MOVQ        $-1, AX
	BZHIQ       CX, AX, AX
	KMOVQ       AX, K1
	VMOVDQU8.Z  (SI), K1, Z0
	VMOVDQU8.Z  (DX), K1, Z1
	VPXORQ      Z1, Z0, Z0
	VMOVDQU8    Z0, K1, (DI)

done:
	VZEROUPPER
	RET
