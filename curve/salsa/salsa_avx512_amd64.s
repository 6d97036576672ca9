#include "textflag.h"
#include "go_asm.h"

// Salsa20/20, one block in each 32-bit lane of the ZMM registers. Word 0, 5, 10, 15 of the state are the constant and 1 to 4,
// 11 to 14 the key, for all blocks the same: they are broadcast from memory. SI has the key, DI the constant, DX the
// lanes.

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

// NUMBERS sets Z16 to Z19 to words 6 to 9 of 16 blocks: nonce and number of the blocks from lane "from" on.
#define NUMBERS(from) \
	VMOVDQU32 lowHalves<>(SB), Z16                \
	VMOVDQU32 Z16, Z18                            \
	VMOVDQU32 highHalves<>(SB), Z17               \
	VMOVDQU32 Z17, Z19                            \
	VMOVDQU32 (lanes_nonce+8*(from))(DX), Z20     \
	VMOVDQU32 (lanes_nonce+8*(from)+64)(DX), Z21  \
	VMOVDQU32 (lanes_number+8*(from))(DX), Z22    \
	VMOVDQU32 (lanes_number+8*(from)+64)(DX), Z23 \
	VPERMI2D  Z21, Z20, Z16                       \
	VPERMI2D  Z21, Z20, Z17                       \
	VPERMI2D  Z23, Z22, Z18                       \
	VPERMI2D  Z23, Z22, Z19

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

// STORE4 writes, from lane "from" on, the blocks s, 4+s, 8+s and 12+s, of which a, b, c, d have the first, second, third, fourth row.
#define STORE4(from, s, a, b, c, d) \
	VSHUFI32X4 $0x44, b, a, Z20                            \
	VSHUFI32X4 $0x44, d, c, Z21                            \
	VSHUFI32X4 $0xee, b, a, Z22                            \
	VSHUFI32X4 $0xee, d, c, Z23                            \
	VSHUFI32X4 $0x88, Z21, Z20, Z24                        \
	VSHUFI32X4 $0xdd, Z21, Z20, Z25                        \
	VSHUFI32X4 $0x88, Z23, Z22, Z26                        \
	VSHUFI32X4 $0xdd, Z23, Z22, Z27                        \
	VMOVDQU32  Z24, (lanes_stream+64*((from)+s))(DX)            \
	VMOVDQU32  Z25, (lanes_stream+64*((from)+4+s))(DX)            \
	VMOVDQU32  Z26, (lanes_stream+64*((from)+8+s))(DX)            \
	VMOVDQU32  Z27, (lanes_stream+64*((from)+12+s))(DX)

// FINISH adds the state as it was before the rounds to that in Z0 to Z15, and writes the 16 blocks from lane "from" on.
#define FINISH(from) \
	NUMBERS(from)                         \
	VPADDD.BCST 0(DI), Z0, Z0             \
	VPADDD.BCST 0(SI), Z1, Z1             \
	VPADDD.BCST 4(SI), Z2, Z2             \
	VPADDD.BCST 8(SI), Z3, Z3             \
	VPADDD.BCST 12(SI), Z4, Z4            \
	VPADDD.BCST 4(DI), Z5, Z5             \
	VPADDD      Z16, Z6, Z6               \
	VPADDD      Z17, Z7, Z7               \
	VPADDD      Z18, Z8, Z8               \
	VPADDD      Z19, Z9, Z9               \
	VPADDD.BCST 8(DI), Z10, Z10           \
	VPADDD.BCST 16(SI), Z11, Z11          \
	VPADDD.BCST 20(SI), Z12, Z12          \
	VPADDD.BCST 24(SI), Z13, Z13          \
	VPADDD.BCST 28(SI), Z14, Z14          \
	VPADDD.BCST 12(DI), Z15, Z15          \
	TRANSPOSE4(Z0, Z1, Z2, Z3)            \
	TRANSPOSE4(Z4, Z5, Z6, Z7)            \
	TRANSPOSE4(Z8, Z9, Z10, Z11)          \
	TRANSPOSE4(Z12, Z13, Z14, Z15)        \
	STORE4(from, 0, Z0, Z4, Z8, Z12)      \
	STORE4(from, 1, Z1, Z5, Z9, Z13)      \
	STORE4(from, 2, Z2, Z6, Z10, Z14)     \
	STORE4(from, 3, Z3, Z7, Z11, Z15)

// func fill16AVX512(l *lanes, k *key)
//
// Z0 to Z15 are the words of the state, Z20 to Z23 temporaries.
TEXT ·fill16AVX512(SB), NOSPLIT, $0-16
	MOVQ l+0(FP), DX
	MOVQ k+8(FP), SI
	LEAQ ·sigma(SB), DI
	NUMBERS(0)
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
	MOVL         $10, CX

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

	FINISH(0)
	VZEROUPPER
	RET

// QUARTER is a quarter round, of which each step waits for the one before.
#define QUARTER(a, b, c, d) \
	VPADDD a, d, Z30    \
	VPROLD $7, Z30, Z30  \
	VPXORD Z30, b, b    \
	VPADDD b, a, Z31    \
	VPROLD $9, Z31, Z31  \
	VPXORD Z31, c, c    \
	VPADDD c, b, Z30    \
	VPROLD $13, Z30, Z30 \
	VPXORD Z30, d, d    \
	VPADDD d, c, Z31    \
	VPROLD $18, Z31, Z31 \
	VPXORD Z31, a, a

// func fill32AVX512(l *lanes, k *key)
//
// Two sets of 16 blocks take turns: one alone is too few independent instructions to keep a processor busy whose vector
// instructions take two cycles.
//
// Z1 to Z14    words 1 to 14 of the first set, Z0 its word 0 or 15
// Z16 to Z29   words 1 to 14 of the second set, Z15 its word 0 or 15
// Z30 Z31      temporaries
//
// The word 0 or 15 that is not in its register is in the frame: they change places twice in a double round.
TEXT ·fill32AVX512(SB), 0, $256-16
	MOVQ l+0(FP), DX
	MOVQ k+8(FP), SI
	LEAQ ·sigma(SB), DI
	NUMBERS(0)
	VMOVDQA32    Z16, Z6
	VMOVDQA32    Z17, Z7
	VMOVDQA32    Z18, Z8
	VMOVDQA32    Z19, Z9
	NUMBERS(16)
	VMOVDQA32    Z19, Z24
	VMOVDQA32    Z18, Z23
	VMOVDQA32    Z17, Z22
	VMOVDQA32    Z16, Z21
	VPBROADCASTD 12(DI), Z0
	VMOVDQU32    Z0, first15-64(SP)
	VMOVDQU32    Z0, second15-128(SP)
	VPBROADCASTD 0(DI), Z0
	VMOVDQA32    Z0, Z15
	VPBROADCASTD 0(SI), Z1
	VMOVDQA32    Z1, Z16
	VPBROADCASTD 4(SI), Z2
	VMOVDQA32    Z2, Z17
	VPBROADCASTD 8(SI), Z3
	VMOVDQA32    Z3, Z18
	VPBROADCASTD 12(SI), Z4
	VMOVDQA32    Z4, Z19
	VPBROADCASTD 4(DI), Z5
	VMOVDQA32    Z5, Z20
	VPBROADCASTD 8(DI), Z10
	VMOVDQA32    Z10, Z25
	VPBROADCASTD 16(SI), Z11
	VMOVDQA32    Z11, Z26
	VPBROADCASTD 20(SI), Z12
	VMOVDQA32    Z12, Z27
	VPBROADCASTD 24(SI), Z13
	VMOVDQA32    Z13, Z28
	VPBROADCASTD 28(SI), Z14
	VMOVDQA32    Z14, Z29
	MOVL         $10, CX

doubleround:
	// The columns.
	QUARTER(Z0, Z4, Z8, Z12)  // 0, 4, 8, 12
	QUARTER(Z15, Z19, Z23, Z27)
	QUARTER(Z5, Z9, Z13, Z1)  // 5, 9, 13, 1
	QUARTER(Z20, Z24, Z28, Z16)
	QUARTER(Z10, Z14, Z2, Z6)  // 10, 14, 2, 6
	QUARTER(Z25, Z29, Z17, Z21)
	VMOVDQU32 Z0, first0-192(SP)
	VMOVDQU32 Z15, second0-256(SP)
	VMOVDQU32 first15-64(SP), Z0
	VMOVDQU32 second15-128(SP), Z15
	QUARTER(Z0, Z3, Z7, Z11)  // 15, 3, 7, 11
	QUARTER(Z15, Z18, Z22, Z26)

	// The rows.
	QUARTER(Z0, Z12, Z13, Z14)  // 15, 12, 13, 14
	QUARTER(Z15, Z27, Z28, Z29)
	QUARTER(Z10, Z11, Z8, Z9)  // 10, 11, 8, 9
	QUARTER(Z25, Z26, Z23, Z24)
	QUARTER(Z5, Z6, Z7, Z4)  // 5, 6, 7, 4
	QUARTER(Z20, Z21, Z22, Z19)
	VMOVDQU32 Z0, first15-64(SP)
	VMOVDQU32 Z15, second15-128(SP)
	VMOVDQU32 first0-192(SP), Z0
	VMOVDQU32 second0-256(SP), Z15
	QUARTER(Z0, Z1, Z2, Z3)  // 0, 1, 2, 3
	QUARTER(Z15, Z16, Z17, Z18)

	DECL CX
	JNZ  doubleround

	// The second set waits where its blocks will be.
	VMOVDQU32 Z15, (lanes_stream+64*16)(DX)
	VMOVDQU32 Z16, (lanes_stream+64*17)(DX)
	VMOVDQU32 Z17, (lanes_stream+64*18)(DX)
	VMOVDQU32 Z18, (lanes_stream+64*19)(DX)
	VMOVDQU32 Z19, (lanes_stream+64*20)(DX)
	VMOVDQU32 Z20, (lanes_stream+64*21)(DX)
	VMOVDQU32 Z21, (lanes_stream+64*22)(DX)
	VMOVDQU32 Z22, (lanes_stream+64*23)(DX)
	VMOVDQU32 Z23, (lanes_stream+64*24)(DX)
	VMOVDQU32 Z24, (lanes_stream+64*25)(DX)
	VMOVDQU32 Z25, (lanes_stream+64*26)(DX)
	VMOVDQU32 Z26, (lanes_stream+64*27)(DX)
	VMOVDQU32 Z27, (lanes_stream+64*28)(DX)
	VMOVDQU32 Z28, (lanes_stream+64*29)(DX)
	VMOVDQU32 Z29, (lanes_stream+64*30)(DX)
	VMOVDQU32 first15-64(SP), Z15
	FINISH(0)
	VMOVDQU32 (lanes_stream+64*16)(DX), Z0
	VMOVDQU32 (lanes_stream+64*17)(DX), Z1
	VMOVDQU32 (lanes_stream+64*18)(DX), Z2
	VMOVDQU32 (lanes_stream+64*19)(DX), Z3
	VMOVDQU32 (lanes_stream+64*20)(DX), Z4
	VMOVDQU32 (lanes_stream+64*21)(DX), Z5
	VMOVDQU32 (lanes_stream+64*22)(DX), Z6
	VMOVDQU32 (lanes_stream+64*23)(DX), Z7
	VMOVDQU32 (lanes_stream+64*24)(DX), Z8
	VMOVDQU32 (lanes_stream+64*25)(DX), Z9
	VMOVDQU32 (lanes_stream+64*26)(DX), Z10
	VMOVDQU32 (lanes_stream+64*27)(DX), Z11
	VMOVDQU32 (lanes_stream+64*28)(DX), Z12
	VMOVDQU32 (lanes_stream+64*29)(DX), Z13
	VMOVDQU32 (lanes_stream+64*30)(DX), Z14
	VMOVDQU32 second15-128(SP), Z15
	FINISH(16)
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
