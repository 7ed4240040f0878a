#include "textflag.h"

#define SYS_arch_prctl 158
#define ARCH_SET_FS 0x1002

// func entry()
//
// The kernel begins here, in place of the Go runtime's _rt0_amd64_linux, which
// finds everything as the kernel left it.
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVQ	SP, ·stack(SB)

	// The way from assembly to a Go function loads g from thread-local storage:
	// there must be some.
	MOVQ	$SYS_arch_prctl, AX
	MOVQ	$ARCH_SET_FS, DI
	LEAQ	·storage+64(SB), SI
	SYSCALL

	CALL	·handOver(SB)
	MOVQ	·stack(SB), SP
	JMP	_rt0_amd64_linux(SB)
