#include "textflag.h"
#include "go_asm.h"

// Salsa20/20 for 8 blocks, one 32-bit lane of a YMM register each.
//
// Y1 to Y3, Y5 to Y10   words 1 to 3 and 5 to 10 of the state, of all 8 blocks
// Y11 Y12 Y13           words 12, 13, 14
// Y0 Y4                 words 0 and 4, or 15 and 11: two words of the 16 are always in memory, and change places
//                       between the quarter rounds twice in a double round
// Y14 Y15               temporaries
//
// The frame has 16 places of 32 bytes, one for each word.
#define WORD(n) (32*(n))(SP)

// STEP is b ^= (a + d) <<< n.
#define STEP(n, a, d, b) \
	VPADDD a, d, Y14         \
	VPSLLD $n, Y14, Y15      \
	VPSRLD $(32-n), Y14, Y14 \
	VPXOR  Y15, b, b         \
	VPXOR  Y14, b, b

#define QUARTER(a, b, c, d) \
	STEP(7, a, d, b)  \
	STEP(9, b, a, c)  \
	STEP(13, c, b, d) \
	STEP(18, d, c, a)

// INPUT sets word n and the one after it to the low and the high halves of the 8 numbers at 0(R9).
#define INPUT(n, low, high) \
	VMOVDQU (R9), Y14              \
	VMOVDQU 32(R9), Y15            \
	VSHUFPS $0x88, Y15, Y14, low   \
	VSHUFPS $0xdd, Y15, Y14, high  \
	VPERMQ  $0xd8, low, low        \
	VPERMQ  $0xd8, high, high      \
	VMOVDQU low, WORD(n)           \
	VMOVDQU high, WORD(n+1)

// ADDKEY adds what word was at the start, the same for all blocks.
#define ADDKEY(mem, word) \
	VPBROADCASTD mem, Y14 \
	VPADDD       Y14, word, word

// STORE8 writes one half of each of the 8 blocks to DX, from the 8 words in Y0 to Y7.
#define STORE8 \
	VPUNPCKLDQ  Y1, Y0, Y8          \
	VPUNPCKHDQ  Y1, Y0, Y9          \
	VPUNPCKLDQ  Y3, Y2, Y10         \
	VPUNPCKHDQ  Y3, Y2, Y11         \
	VPUNPCKLDQ  Y5, Y4, Y12         \
	VPUNPCKHDQ  Y5, Y4, Y13         \
	VPUNPCKLDQ  Y7, Y6, Y14         \
	VPUNPCKHDQ  Y7, Y6, Y15         \
	VPUNPCKLQDQ Y10, Y8, Y0         \ // block 0 and 4
	VPUNPCKHQDQ Y10, Y8, Y1         \ // block 1 and 5
	VPUNPCKLQDQ Y11, Y9, Y2         \
	VPUNPCKHQDQ Y11, Y9, Y3         \
	VPUNPCKLQDQ Y14, Y12, Y4        \
	VPUNPCKHQDQ Y14, Y12, Y5        \
	VPUNPCKLQDQ Y15, Y13, Y6        \
	VPUNPCKHQDQ Y15, Y13, Y7        \
	VPERM2I128  $0x20, Y4, Y0, Y8   \
	VPERM2I128  $0x20, Y5, Y1, Y9   \
	VPERM2I128  $0x20, Y6, Y2, Y10  \
	VPERM2I128  $0x20, Y7, Y3, Y11  \
	VPERM2I128  $0x31, Y4, Y0, Y12  \
	VPERM2I128  $0x31, Y5, Y1, Y13  \
	VPERM2I128  $0x31, Y6, Y2, Y14  \
	VPERM2I128  $0x31, Y7, Y3, Y15  \
	VMOVDQU     Y8, 0(DX)           \
	VMOVDQU     Y9, 64(DX)          \
	VMOVDQU     Y10, 128(DX)        \
	VMOVDQU     Y11, 192(DX)        \
	VMOVDQU     Y12, 256(DX)        \
	VMOVDQU     Y13, 320(DX)        \
	VMOVDQU     Y14, 384(DX)        \
	VMOVDQU     Y15, 448(DX)

// func fillAVX2(l *lanes, k *key, first int)
TEXT ·fillAVX2(SB), 0, $512-24
	MOVQ l+0(FP), R8
	MOVQ k+8(FP), SI
	MOVQ first+16(FP), AX
	LEAQ ·sigma(SB), DI

	LEAQ lanes_nonce(R8)(AX*8), R9
	INPUT(6, Y6, Y7)
	LEAQ lanes_number(R8)(AX*8), R9
	INPUT(8, Y8, Y9)
	SHLQ $6, AX
	LEAQ lanes_stream(R8)(AX*1), DX

	VPBROADCASTD 0(DI), Y0
	VPBROADCASTD 0(SI), Y1
	VPBROADCASTD 4(SI), Y2
	VPBROADCASTD 8(SI), Y3
	VPBROADCASTD 12(SI), Y4
	VPBROADCASTD 4(DI), Y5
	VPBROADCASTD 8(DI), Y10
	VPBROADCASTD 16(SI), Y14
	VPBROADCASTD 20(SI), Y11
	VPBROADCASTD 24(SI), Y12
	VPBROADCASTD 28(SI), Y13
	VPBROADCASTD 12(DI), Y15
	VMOVDQU      Y14, WORD(11)
	VMOVDQU      Y15, WORD(15)
	MOVL         $10, CX

doubleround:
	// The columns.
	QUARTER(Y0, Y4, Y8, Y11)  // 0, 4, 8, 12
	QUARTER(Y5, Y9, Y12, Y1)  // 5, 9, 13, 1
	QUARTER(Y10, Y13, Y2, Y6) // 10, 14, 2, 6
	VMOVDQU Y0, WORD(0)
	VMOVDQU Y4, WORD(4)
	VMOVDQU WORD(15), Y0
	VMOVDQU WORD(11), Y4
	QUARTER(Y0, Y3, Y7, Y4)   // 15, 3, 7, 11

	// The rows.
	QUARTER(Y0, Y11, Y12, Y13) // 15, 12, 13, 14
	QUARTER(Y10, Y4, Y8, Y9)   // 10, 11, 8, 9
	VMOVDQU Y0, WORD(15)
	VMOVDQU Y4, WORD(11)
	VMOVDQU WORD(0), Y0
	VMOVDQU WORD(4), Y4
	QUARTER(Y5, Y6, Y7, Y4)    // 5, 6, 7, 4
	QUARTER(Y0, Y1, Y2, Y3)    // 0, 1, 2, 3

	DECL CX
	JNZ  doubleround

	// Nonce and number come back from the frame, which then takes words 8 to 15.
	VPADDD  WORD(6), Y6, Y6
	VPADDD  WORD(7), Y7, Y7
	VPADDD  WORD(8), Y8, Y8
	VPADDD  WORD(9), Y9, Y9
	VMOVDQU Y8, WORD(8)
	VMOVDQU Y9, WORD(9)
	VMOVDQU Y10, WORD(10)
	VMOVDQU Y11, WORD(12)
	VMOVDQU Y12, WORD(13)
	VMOVDQU Y13, WORD(14)
	ADDKEY(0(DI), Y0)
	ADDKEY(0(SI), Y1)
	ADDKEY(4(SI), Y2)
	ADDKEY(8(SI), Y3)
	ADDKEY(12(SI), Y4)
	ADDKEY(4(DI), Y5)
	STORE8

	VMOVDQU WORD(8), Y0
	VMOVDQU WORD(9), Y1
	VMOVDQU WORD(10), Y2
	VMOVDQU WORD(11), Y3
	VMOVDQU WORD(12), Y4
	VMOVDQU WORD(13), Y5
	VMOVDQU WORD(14), Y6
	VMOVDQU WORD(15), Y7
	ADDKEY(8(DI), Y2)
	ADDKEY(16(SI), Y3)
	ADDKEY(20(SI), Y4)
	ADDKEY(24(SI), Y5)
	ADDKEY(28(SI), Y6)
	ADDKEY(12(DI), Y7)
	ADDQ    $32, DX
	STORE8
	VZEROUPPER
	RET

// func xorAVX2(dst, src, stream *byte, n int)
//
// n > 0 is in units of 32 bytes.
TEXT ·xorAVX2(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ stream+16(FP), DX
	MOVQ n+24(FP), CX

loop:
	VMOVDQU (SI), Y0
	VPXOR   (DX), Y0, Y0
	VMOVDQU Y0, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DX
	ADDQ    $32, DI
	DECQ    CX
	JNE     loop
	VZEROUPPER
	RET
