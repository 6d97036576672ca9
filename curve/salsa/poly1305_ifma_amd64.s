#include "textflag.h"
#include "go_asm.h"

// Poly1305 for 8 accumulators at once, one 64-bit lane of a ZMM register each, with the multiply-and-add instructions
// for 52 bits. A number is three limbs: 44, 44 and 42 bits, h0 + h1·2^44 + h2·2^88.
//
// Z0 Z1 Z2    h, the accumulators
// Z3 Z4 Z5    r, the multipliers
// Z6 Z7       20·r1, 20·r2: what is at 2^132 or above comes back times 5·2^2
// Z8 to Z13   the products: low and high part of the three columns
// Z14 Z15     masks of 44 and of 42 bits
// Z16 to Z19  a block of each lane, and temporaries
// Z20         the bit above each block, 2^128: 2^40 in the third limb

#define CONSTANTS \
	MOVQ         $0xfffffffffff, AX  \
	VPBROADCASTQ AX, Z14             \
	MOVQ         $0x3ffffffffff, AX  \
	VPBROADCASTQ AX, Z15

// TIMES20 sets s to 20·r.
#define TIMES20(r, s) \
	VPSLLQ $2, r, s   \
	VPSLLQ $4, r, Z16 \
	VPADDQ Z16, s, s

// SPLIT makes limbs of a block of each lane, whose first 8 bytes are in Z16 and the others in Z17: Z18, Z16, Z17.
#define SPLIT \
	VPANDQ     Z14, Z16, Z18        \
	VPSRLQ     $44, Z16, Z16        \
	VPSLLQ     $20, Z17, Z19        \
	VPTERNLOGQ $0xa8, Z14, Z19, Z16 \ // (Z16 | Z19) & Z14
	VPSRLQ     $24, Z17, Z17        \
	VPADDQ     Z20, Z17, Z17

// ADDBLOCKS adds such a block of each lane to h.
#define ADDBLOCKS \
	SPLIT                \
	VPADDQ Z18, Z0, Z0   \
	VPADDQ Z16, Z1, Z1   \
	VPADDQ Z17, Z2, Z2

#define ZEROPRODUCTS \
	VPXORQ Z8, Z8, Z8    \
	VPXORQ Z9, Z9, Z9    \
	VPXORQ Z10, Z10, Z10 \
	VPXORQ Z11, Z11, Z11 \
	VPXORQ Z12, Z12, Z12 \
	VPXORQ Z13, Z13, Z13

// ADDPRODUCTS adds a·r to the products. A product of two limbs below 2^52 is added in two halves: 52 bits to the low part of
// its column, the others to the high part, which thus counts 2^52.
#define ADDPRODUCTS(a0, a1, a2, r0, r1, r2, s1, s2) \
	VPMADD52LUQ s1, a2, Z8  \
	VPMADD52HUQ s1, a2, Z9  \
	VPMADD52LUQ s2, a2, Z10 \
	VPMADD52HUQ s2, a2, Z11 \
	VPMADD52LUQ r0, a2, Z12 \
	VPMADD52HUQ r0, a2, Z13 \
	VPMADD52LUQ r0, a0, Z8  \
	VPMADD52HUQ r0, a0, Z9  \
	VPMADD52LUQ r1, a0, Z10 \
	VPMADD52HUQ r1, a0, Z11 \
	VPMADD52LUQ r2, a0, Z12 \
	VPMADD52HUQ r2, a0, Z13 \
	VPMADD52LUQ s2, a1, Z8  \
	VPMADD52HUQ s2, a1, Z9  \
	VPMADD52LUQ r0, a1, Z10 \
	VPMADD52HUQ r0, a1, Z11 \
	VPMADD52LUQ r1, a1, Z12 \
	VPMADD52HUQ r1, a1, Z13

// CARRY sets h to the sum of the products. Each column keeps the bits of its limb and carries the others to the next one; what
// the third one carries, 2^130, comes back times 5. If at most two products were added of numbers with limbs below 2^45,
// 2^45 and 2^43, the limbs are below 2^44, 2^44+2^8 and 2^42 after it.
#define CARRY \
	VPSRLQ $44, Z8, Z16  \
	VPANDQ Z14, Z8, Z0   \
	VPSLLQ $8, Z9, Z9    \
	VPADDQ Z9, Z10, Z10  \
	VPADDQ Z16, Z10, Z10 \
	VPSRLQ $44, Z10, Z16 \
	VPANDQ Z14, Z10, Z1  \
	VPSLLQ $8, Z11, Z11  \
	VPADDQ Z11, Z12, Z12 \
	VPADDQ Z16, Z12, Z12 \
	VPSRLQ $42, Z12, Z16 \
	VPANDQ Z15, Z12, Z2  \
	VPSLLQ $10, Z13, Z13 \
	VPADDQ Z13, Z16, Z16 \
	VPADDQ Z16, Z0, Z0   \
	VPSLLQ $2, Z16, Z16  \
	VPADDQ Z16, Z0, Z0   \
	VPSRLQ $44, Z0, Z16  \
	VPANDQ Z14, Z0, Z0   \
	VPADDQ Z16, Z1, Z1

// MULTIPLY sets h to h·r.
#define MULTIPLY \
	ZEROPRODUCTS                                     \
	ADDPRODUCTS(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)      \
	CARRY

// LOADCHUNK loads the 128 bytes that are at bytes further on: block 0, 4, 1, 5, 2, 6, 3, 7 to lane 0 to 7.
#define LOADCHUNK(at) \
	VMOVDQU64   (at+0)(SI), Z18  \
	VMOVDQU64   (at+64)(SI), Z19 \
	VPUNPCKLQDQ Z19, Z18, Z16 \
	VPUNPCKHQDQ Z19, Z18, Z17

// func longIFMA(p *polyLanes, text *byte, n int)
//
// Takes n > 0 chunks of 128 bytes of one text. Lane i has every eighth block; all are multiplied by r8, the eighth power of r,
// which is in the first lane of p.r, but at the end each by its own power. What came before is in p.h, in the first lane.
//
// Two chunks go together: h = (h + first)·r16 + second·r8 has one chain of carries to wait for. Z21 to Z25 have r16 like Z3
// to Z7 have r8.
TEXT ·longIFMA(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), DI
	MOVQ text+8(FP), SI
	MOVQ n+16(FP), CX
	CONSTANTS
	MOVQ         $0x10000000000, AX
	VPBROADCASTQ AX, Z20
	VPBROADCASTQ polyLanes_r(DI), Z3
	VPBROADCASTQ (polyLanes_r+64)(DI), Z4
	VPBROADCASTQ (polyLanes_r+128)(DI), Z5
	TIMES20(Z4, Z6)
	TIMES20(Z5, Z7)
	VMOVDQA64    Z3, Z0
	VMOVDQA64    Z4, Z1
	VMOVDQA64    Z5, Z2
	MULTIPLY
	VMOVDQA64    Z0, Z21
	VMOVDQA64    Z1, Z22
	VMOVDQA64    Z2, Z23
	TIMES20(Z22, Z24)
	TIMES20(Z23, Z25)
	VMOVDQU64    polyLanes_h(DI), Z0
	VMOVDQU64    (polyLanes_h+64)(DI), Z1
	VMOVDQU64    (polyLanes_h+128)(DI), Z2

	// An odd number of chunks, the last one not counted, begins with one alone.
	DECQ  CX
	TESTQ $1, CX
	JEQ   even
	LOADCHUNK(0)
	ADDBLOCKS
	ADDQ  $128, SI
	MULTIPLY

even:
	SHRQ $1, CX
	JEQ  last

pair:
	LOADCHUNK(128)
	SPLIT
	ZEROPRODUCTS
	ADDPRODUCTS(Z18, Z16, Z17, Z3, Z4, Z5, Z6, Z7)
	LOADCHUNK(0)
	ADDBLOCKS
	ADDQ $256, SI
	ADDPRODUCTS(Z0, Z1, Z2, Z21, Z22, Z23, Z24, Z25)
	CARRY
	DECQ CX
	JNE  pair

last:
	LOADCHUNK(0)
	ADDBLOCKS
	VMOVDQU64 polyLanes_r(DI), Z3
	VMOVDQU64 (polyLanes_r+64)(DI), Z4
	VMOVDQU64 (polyLanes_r+128)(DI), Z5
	TIMES20(Z4, Z6)
	TIMES20(Z5, Z7)
	MULTIPLY
	VMOVDQU64 Z0, polyLanes_h(DI)
	VMOVDQU64 Z1, (polyLanes_h+64)(DI)
	VMOVDQU64 Z2, (polyLanes_h+128)(DI)
	VZEROUPPER
	RET

// LOAD8 loads 16 bytes of each lane: the first 8 into Z16, the others into Z17.
#define LOAD8(a0, a1, a2, a3, a4, a5, a6, a7) \
	VMOVDQU64    a0, X16            \
	VINSERTI32X4 $1, a2, Y16, Y16   \
	VMOVDQU64    a4, X18            \
	VINSERTI32X4 $1, a6, Y18, Y18   \
	VINSERTI64X4 $1, Y18, Z16, Z18  \
	VMOVDQU64    a1, X17            \
	VINSERTI32X4 $1, a3, Y17, Y17   \
	VMOVDQU64    a5, X19            \
	VINSERTI32X4 $1, a7, Y19, Y19   \
	VINSERTI64X4 $1, Y19, Z17, Z19  \
	VPUNPCKLQDQ  Z19, Z18, Z16      \
	VPUNPCKHQDQ  Z19, Z18, Z17

// func keysIFMA(p *polyLanes, keys *byte)
//
// Sets h to zero and r from 8 one-time keys, which are 64 bytes apart.
TEXT ·keysIFMA(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), DI
	MOVQ keys+8(FP), SI
	CONSTANTS
	VPXORQ Z0, Z0, Z0
	VPXORQ Z1, Z1, Z1
	VPXORQ Z2, Z2, Z2
	VPXORQ Z20, Z20, Z20
	LOAD8(0(SI), 64(SI), 128(SI), 192(SI), 256(SI), 320(SI), 384(SI), 448(SI))
	MOVQ         $const_clamp0, AX
	VPBROADCASTQ AX, Z3
	VPANDQ       Z3, Z16, Z16
	MOVQ         $const_clamp1, AX
	VPBROADCASTQ AX, Z3
	VPANDQ       Z3, Z17, Z17
	VMOVDQU64    Z0, polyLanes_h(DI)
	VMOVDQU64    Z1, (polyLanes_h+64)(DI)
	VMOVDQU64    Z2, (polyLanes_h+128)(DI)
	ADDBLOCKS // to zero: the same split into limbs
	VMOVDQU64    Z0, polyLanes_r(DI)
	VMOVDQU64    Z1, (polyLanes_r+64)(DI)
	VMOVDQU64    Z2, (polyLanes_r+128)(DI)
	VZEROUPPER
	RET

// func manyIFMA(p *polyLanes, in *laneInputs, n int)
//
// Takes n > 0 blocks of each of 8 texts, whose addresses are in R8 to R13, AX and R15; R14 is Go's.
TEXT ·manyIFMA(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), DI
	MOVQ in+8(FP), SI
	MOVQ n+16(FP), CX
	CONSTANTS
	VMOVDQU64 polyLanes_h(DI), Z0
	VMOVDQU64 (polyLanes_h+64)(DI), Z1
	VMOVDQU64 (polyLanes_h+128)(DI), Z2
	VMOVDQU64 polyLanes_r(DI), Z3
	VMOVDQU64 (polyLanes_r+64)(DI), Z4
	VMOVDQU64 (polyLanes_r+128)(DI), Z5
	VMOVDQU64 laneInputs_bit(SI), Z20
	TIMES20(Z4, Z6)
	TIMES20(Z5, Z7)
	MOVQ      (laneInputs_text+0)(SI), R8
	MOVQ      (laneInputs_text+8)(SI), R9
	MOVQ      (laneInputs_text+16)(SI), R10
	MOVQ      (laneInputs_text+24)(SI), R11
	MOVQ      (laneInputs_text+32)(SI), R12
	MOVQ      (laneInputs_text+40)(SI), R13
	MOVQ      (laneInputs_text+48)(SI), AX
	MOVQ      (laneInputs_text+56)(SI), R15

block:
	LOAD8((R8), (R9), (R10), (R11), (R12), (R13), (AX), (R15))
	ADDBLOCKS
	ADDQ (laneInputs_step+0)(SI), R8
	ADDQ (laneInputs_step+8)(SI), R9
	ADDQ (laneInputs_step+16)(SI), R10
	ADDQ (laneInputs_step+24)(SI), R11
	ADDQ (laneInputs_step+32)(SI), R12
	ADDQ (laneInputs_step+40)(SI), R13
	ADDQ (laneInputs_step+48)(SI), AX
	ADDQ (laneInputs_step+56)(SI), R15
	MULTIPLY
	DECQ CX
	JNE  block

	VMOVDQU64 Z0, polyLanes_h(DI)
	VMOVDQU64 Z1, (polyLanes_h+64)(DI)
	VMOVDQU64 Z2, (polyLanes_h+128)(DI)
	VZEROUPPER
	RET

// func tagsIFMA(p *polyLanes, keys *byte, tags *byte)
//
// Writes the 8 tags, one after the other: h mod 2^130-5 plus the second half of the key, mod 2^128.
TEXT ·tagsIFMA(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), DI
	MOVQ keys+8(FP), SI
	MOVQ tags+16(FP), DX
	CONSTANTS
	VMOVDQU64 polyLanes_h(DI), Z0
	VMOVDQU64 (polyLanes_h+64)(DI), Z1
	VMOVDQU64 (polyLanes_h+128)(DI), Z2

	// Carry: h is then below 2^130+5, with the first two limbs in their bounds.
	VPSRLQ $44, Z1, Z16
	VPANDQ Z14, Z1, Z1
	VPADDQ Z16, Z2, Z2
	VPSRLQ $42, Z2, Z16
	VPANDQ Z15, Z2, Z2
	VPADDQ Z16, Z0, Z0
	VPSLLQ $2, Z16, Z16
	VPADDQ Z16, Z0, Z0
	VPSRLQ $44, Z0, Z16
	VPANDQ Z14, Z0, Z0
	VPADDQ Z16, Z1, Z1
	VPSRLQ $44, Z1, Z16
	VPANDQ Z14, Z1, Z1
	VPADDQ Z16, Z2, Z2

	// h+5 in Z8 to Z10. Where that reaches 2^130, it is without that bit h - (2^130-5), and taken.
	MOVQ         $5, AX
	VPBROADCASTQ AX, Z8
	VPADDQ       Z8, Z0, Z8
	VPSRLQ       $44, Z8, Z16
	VPANDQ       Z14, Z8, Z8
	VPADDQ       Z16, Z1, Z9
	VPSRLQ       $44, Z9, Z16
	VPANDQ       Z14, Z9, Z9
	VPADDQ       Z16, Z2, Z10
	VPCMPUQ      $6, Z15, Z10, K1 // Z10 > 2^42-1
	VMOVDQA64    Z8, K1, Z0
	VMOVDQA64    Z9, K1, Z1
	VPANDQ       Z15, Z10, K1, Z2

	// Two words of 64 bits.
	VPSLLQ $44, Z1, Z8
	VPORQ  Z8, Z0, Z0
	VPSRLQ $20, Z1, Z1
	VPSLLQ $24, Z2, Z2
	VPORQ  Z2, Z1, Z1

	LOAD8(16(SI), 80(SI), 144(SI), 208(SI), 272(SI), 336(SI), 400(SI), 464(SI))
	VPADDQ       Z16, Z0, Z0
	VPCMPUQ      $1, Z16, Z0, K1 // Z0 < Z16: it has overflowed
	VPADDQ       Z17, Z1, Z1
	VPTERNLOGQ   $0xff, Z8, Z8, Z8
	VPSUBQ       Z8, Z1, K1, Z1

	VPUNPCKLQDQ   Z1, Z0, Z2 // tags 0, 2, 4, 6
	VPUNPCKHQDQ   Z1, Z0, Z3
	VMOVDQU64     X2, 0(DX)
	VMOVDQU64     X3, 16(DX)
	VEXTRACTI32X4 $1, Z2, 32(DX)
	VEXTRACTI32X4 $1, Z3, 48(DX)
	VEXTRACTI32X4 $2, Z2, 64(DX)
	VEXTRACTI32X4 $2, Z3, 80(DX)
	VEXTRACTI32X4 $3, Z2, 96(DX)
	VEXTRACTI32X4 $3, Z3, 112(DX)
	VZEROUPPER
	RET
