#include "textflag.h"

#define SYS_arch_prctl 158
#define ARCH_SET_FS 0x1002

// VERSION is set by the build (-asmflags -D, see the Makefile): eight letters,
// which the program says its version with. Without it nothing is handed over.
#ifndef VERSION
#define VERSION 0
#endif

// func entry()
//
// The kernel begins here, in place of the Go runtime's _rt0_amd64_linux, which
// finds everything as the kernel left it.
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVQ	SP, ·stack(SB)
	MOVQ	$VERSION, AX
	MOVQ	AX, ·mark(SB)

	// The way from assembly to a Go function loads g from thread-local storage:
	// there must be some.
	MOVQ	$SYS_arch_prctl, AX
	MOVQ	$ARCH_SET_FS, DI
	LEAQ	·storage+64(SB), SI
	SYSCALL

	CALL	·handOver(SB)
	MOVQ	·stack(SB), SP
	JMP	_rt0_amd64_linux(SB)

// func call(number, a, b, c, d, e, f uintptr) uintptr
TEXT ·call(SB), NOSPLIT, $0-64
	MOVQ	number+0(FP), AX
	MOVQ	a+8(FP), DI
	MOVQ	b+16(FP), SI
	MOVQ	c+24(FP), DX
	MOVQ	d+32(FP), R10
	MOVQ	e+40(FP), R8
	MOVQ	f+48(FP), R9
	SYSCALL
	MOVQ	AX, ret+56(FP)
	RET
