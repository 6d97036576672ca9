#include "textflag.h"
#include "go_asm.h"

// Poly1305 for 4 accumulators at once, one 64-bit lane of a YMM register each. A number is five limbs of 26 bits, which
// leaves room in the products of 32 by 32 bits for what is added to them.
//
// Y0 to Y4     h, the accumulators
// Y5 to Y9     the products, by column
// Y10 to Y12   blocks, and temporaries
// Y13          the bit above a block, 2^128: 2^24 in the fifth limb
// Y14          mask of 26 bits
//
// The multiplier stays in memory: r0 to r4, then s1 to s4, which are 5·r1 to 5·r4, for what is at 2^130 or above.
#define R(n) (32*(n))(BX)
#define S(n) (32*(n)+128)(BX)

// ADDBLOCKS adds 64 bytes to h: block 0, 2, 1, 3 to lane 0, 1, 2, 3.
#define ADDBLOCKS \
	VMOVDQU     (SI), Y11     \
	VMOVDQU     32(SI), Y12   \
	VPUNPCKLQDQ Y12, Y11, Y10 \
	VPUNPCKHQDQ Y12, Y11, Y11 \
	VPAND       Y14, Y10, Y12 \
	VPADDQ      Y12, Y0, Y0   \
	VPSRLQ      $26, Y10, Y12 \
	VPAND       Y14, Y12, Y12 \
	VPADDQ      Y12, Y1, Y1   \
	VPSRLQ      $52, Y10, Y10 \
	VPSLLQ      $12, Y11, Y12 \
	VPOR        Y12, Y10, Y10 \
	VPAND       Y14, Y10, Y10 \
	VPADDQ      Y10, Y2, Y2   \
	VPSRLQ      $14, Y11, Y12 \
	VPAND       Y14, Y12, Y12 \
	VPADDQ      Y12, Y3, Y3   \
	VPSRLQ      $40, Y11, Y11 \
	VPADDQ      Y13, Y4, Y4   \
	VPADDQ      Y11, Y4, Y4

// ROW adds the products of one limb of h with five multipliers to the columns.
#define ROW(h, m0, m1, m2, m3, m4) \
	VPMULUDQ m0, h, Y10  \
	VPMULUDQ m1, h, Y11  \
	VPMULUDQ m2, h, Y12  \
	VPADDQ   Y10, Y5, Y5 \
	VPADDQ   Y11, Y6, Y6 \
	VPADDQ   Y12, Y7, Y7 \
	VPMULUDQ m3, h, Y10  \
	VPMULUDQ m4, h, Y11  \
	VPADDQ   Y10, Y8, Y8 \
	VPADDQ   Y11, Y9, Y9

// CARRY leaves 26 bits in a limb, moved from column c to h, and adds the others to column next.
#define CARRY(c, h, next) \
	VPSRLQ $26, c, Y10      \
	VPAND  Y14, c, h        \
	VPADDQ Y10, next, next

// MULTIPLY sets h to h·r. The limbs of h are below 2^28 before, and below 2^26+2^7 after it: a product is below 2^57, and
// the carries below 2^34.
#define MULTIPLY \
	VPMULUDQ R(0), Y0, Y5               \
	VPMULUDQ R(1), Y0, Y6               \
	VPMULUDQ R(2), Y0, Y7               \
	VPMULUDQ R(3), Y0, Y8               \
	VPMULUDQ R(4), Y0, Y9               \
	ROW(Y1, S(4), R(0), R(1), R(2), R(3)) \
	ROW(Y2, S(3), S(4), R(0), R(1), R(2)) \
	ROW(Y3, S(2), S(3), S(4), R(0), R(1)) \
	ROW(Y4, S(1), S(2), S(3), S(4), R(0)) \
	CARRY(Y5, Y0, Y6)                   \
	CARRY(Y8, Y3, Y9)                   \
	CARRY(Y6, Y1, Y7)                   \
	VPSRLQ   $26, Y9, Y10               \ // 2^130: times 5
	VPAND    Y14, Y9, Y4                \
	VPADDQ   Y10, Y0, Y0                \
	VPSLLQ   $2, Y10, Y10               \
	VPADDQ   Y10, Y0, Y0                \
	CARRY(Y7, Y2, Y3)                   \
	CARRY(Y0, Y0, Y1)                   \
	CARRY(Y3, Y3, Y4)

// func longAVX2(p *polyLanes26, text *byte, n int)
//
// Takes n > 0 chunks of 64 bytes of one text. Lane i has every fourth block; all are multiplied by the fourth power of r, but
// at the end each by its own. What came before is in p.h, in the first lane.
TEXT ·longAVX2(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), DI
	MOVQ text+8(FP), SI
	MOVQ n+16(FP), CX
	LEAQ polyLanes26_fourth(DI), BX
	MOVQ $0x3ffffff, AX
	VMOVQ AX, X14
	VPBROADCASTQ X14, Y14
	MOVQ $0x1000000, AX
	VMOVQ AX, X13
	VPBROADCASTQ X13, Y13
	VMOVDQU (polyLanes26_h+0)(DI), Y0
	VMOVDQU (polyLanes26_h+32)(DI), Y1
	VMOVDQU (polyLanes26_h+64)(DI), Y2
	VMOVDQU (polyLanes26_h+96)(DI), Y3
	VMOVDQU (polyLanes26_h+128)(DI), Y4

chunk:
	ADDBLOCKS
	ADDQ $64, SI
	DECQ CX
	JEQ  last
	MULTIPLY
	JMP  chunk

last:
	LEAQ polyLanes26_own(DI), BX
	MULTIPLY
	VMOVDQU Y0, (polyLanes26_h+0)(DI)
	VMOVDQU Y1, (polyLanes26_h+32)(DI)
	VMOVDQU Y2, (polyLanes26_h+64)(DI)
	VMOVDQU Y3, (polyLanes26_h+96)(DI)
	VMOVDQU Y4, (polyLanes26_h+128)(DI)
	VZEROUPPER
	RET
