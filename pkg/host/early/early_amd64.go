package early

import (
	"syscall"
	"unsafe"
)

// What runs before the runtime has no stack to grow, no heap, and nobody who
// would print a panic: all of it is //go:nosplit, calls nothing else, and stays
// inside of what is there already.
//
// It also stays on one page of the program's file: the first look at another, be
// it for a function of package syscall or for the letters of a string, has the
// kernel map sixteen, which takes up to 45 µs in a virtual machine, a tenth of
// what the process costs. So system calls are made in assembly here, words are
// numbers as a little-endian processor reads letters, and what is written to is
// zero at first.

// entry is where the program begins.
func entry()

// call makes a system call. What it returns is the kernel's: -errno for an error.
//
//go:noescape
func call(number, a, b, c, d, e, f uintptr) uintptr

var _, _ = entry, handOver // by the linker's flag and by entry

var (
	stack   unsafe.Pointer // where the kernel put the arguments and the environment
	mark    uint64         // the letters of Mark, by entry
	storage [128]byte      //nolint:unused // is entry's: thread-local; FS points to its middle, and g is 8 bytes below that: nil
	address syscall.RawSockaddrUnix
)

// Words of the environment, of the message and of the socket's path.
const (
	greeting = 'e' | 'r'<<8 | 'r'<<16 | 'a'<<24 | 'n'<<32 | 'd'<<40

	cni     = 'C' | 'N'<<8 | 'I'<<16 | '_'<<24
	command = 'C' | 'O'<<8 | 'M'<<16 | 'M'<<24 | 'A'<<32 | 'N'<<40 | 'D'<<48 | '='<<56
	add     = 'A' | 'D'<<8 | 'D'<<16
	del     = 'D' | 'E'<<8 | 'L'<<16
	chec    = 'C' | 'H'<<8 | 'E'<<16 | 'C'<<24

	runDcn = '/' | 'r'<<8 | 'u'<<16 | 'n'<<24 | '/'<<32 | 'd'<<40 | 'c'<<48 | 'n'<<56
	iDnetd = 'i' | '/'<<8 | 'd'<<16 | 'n'<<24 | 'e'<<32 | 't'<<40 | 'd'<<48 | '.'<<56
	sock   = 's' | 'o'<<8 | 'c'<<16 | 'k'<<24
)

// handOver has dnetd carry out the call, and ends the process; or it returns.
//
//go:nosplit
func handOver() {
	if !compose() || !read() {
		return
	}
	fd, ok := connect()
	if !ok {
		return
	}
	if send(fd) {
		unanswered = true
		n := answer(fd)
		switch {
		case n > 0 && reply[0] <= Failed && printed(n):
			call(syscall.SYS_EXIT_GROUP, uintptr(reply[0]), 0, 0, 0, 0, 0)
		case n > 0 && reply[0] == Declined:
			unanswered = false
		}
	}
	shut(fd)
}

// compose writes the message as far as the standard input. It reports whether
// the verb is one of those that are handed over.
//
//go:nosplit
func compose() bool {
	const word = unsafe.Sizeof(uintptr(0))
	if *(*int)(stack) != 1 || mark == 0 { // arguments: somebody wants something else
		return false
	}
	*(*uint64)(unsafe.Pointer(&message.data)) = greeting
	*(*uint64)(unsafe.Pointer(&message.data[7])) = mark
	message.end = 16 // both end with a zero byte
	wanted := false
	environment := unsafe.Add(stack, 3*word) // behind the count, one argument, and nil
	for ; *(*unsafe.Pointer)(environment) != nil; environment = unsafe.Add(environment, word) {
		variable := *(*unsafe.Pointer)(environment)
		if *(*uint32)(variable) != cni { // behind the last variable there are as many bytes and more
			continue
		}
		wanted = wanted || handedOver(variable)
		for {
			c := *(*byte)(variable)
			writeByte(c)
			if c == 0 {
				break
			}
			variable = unsafe.Add(variable, 1)
		}
	}
	writeByte(0)
	message.begin = message.end
	return wanted
}

// handedOver reports whether a variable that begins with CNI_ says that the verb is
// ADD, DEL or CHECK.
//
//go:nosplit
func handedOver(variable unsafe.Pointer) bool {
	if *(*uint64)(unsafe.Add(variable, 4)) != command {
		return false
	}
	switch *(*uint32)(unsafe.Add(variable, 12)) {
	case add, del: // and a zero byte
		return true
	case chec:
		return *(*uint16)(unsafe.Add(variable, 16)) == 'K'
	}
	return false
}

// writeByte appends to the message. What finds no room is left out: a message
// that is full is not sent.
//
//go:nosplit
func writeByte(c byte) {
	if message.end < len(message.data) {
		message.data[message.end] = c
		message.end++
	}
}

// read appends the standard input to the message. It reports whether that was
// all.
//
//go:nosplit
func read() bool {
	for message.end < len(message.data) {
		n := call(syscall.SYS_READ, 0,
			uintptr(unsafe.Pointer(&message.data))+uintptr(message.end), uintptr(len(message.data)-message.end), 0, 0, 0)
		switch {
		case errno(n) == syscall.EINTR:
		case errno(n) != 0:
			return false // the runtime meets it again
		case n == 0:
			return true
		default:
			message.end += int(n)
		}
	}
	return false
}

// errno returns the error that a system call returned, or 0.
//
//go:nosplit
func errno(result uintptr) syscall.Errno {
	const maxErrno = 4095 // linux/err.h
	if result > ^uintptr(maxErrno) {
		return syscall.Errno(-result)
	}
	return 0
}

// connect connects to dnetd.
//
//go:nosplit
func connect() (fd uintptr, ok bool) {
	fd = call(syscall.SYS_SOCKET, syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0, 0, 0, 0)
	if errno(fd) != 0 {
		return 0, false
	}
	if fd <= 2 { // one of those was closed, and this would be taken for it
		shut(fd)
		return 0, false
	}
	limit := syscall.Timeval{Sec: Timeout}
	option(fd, syscall.SO_SNDTIMEO, &limit)
	option(fd, syscall.SO_RCVTIMEO, &limit)
	writeAddress()
	const size = unsafe.Offsetof(address.Path) + uintptr(len(Socket)) + 1
	if errno(call(syscall.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&address)), size, 0, 0, 0)) != 0 {
		shut(fd)
		return 0, false
	}
	return fd, true
}

// writeAddress writes where dnetd listens.
//
//go:nosplit
func writeAddress() {
	address.Family = syscall.AF_UNIX
	path := unsafe.Pointer(&address.Path)
	*(*uint64)(path) = runDcn
	*(*uint64)(unsafe.Add(path, 8)) = iDnetd
	*(*uint32)(unsafe.Add(path, 16)) = sock
}

// option sets a limit of time. A kernel that takes none lets it last.
//
//go:nosplit
func option(fd, name uintptr, limit *syscall.Timeval) {
	call(syscall.SYS_SETSOCKOPT, fd, syscall.SOL_SOCKET, name, uintptr(unsafe.Pointer(limit)), unsafe.Sizeof(*limit), 0)
}

// shut closes a socket. Nothing is lost with it.
//
//go:nosplit
func shut(fd uintptr) { call(syscall.SYS_CLOSE, fd, 0, 0, 0, 0, 0) }

// send sends the message.
//
//go:nosplit
func send(fd uintptr) bool {
	n := call(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&message.data)), uintptr(message.end), syscall.MSG_NOSIGNAL, 0, 0)
	return errno(n) == 0
}

// answer waits for dnetd's, which may be late or dead. It returns the length, 0
// for none.
//
//go:nosplit
func answer(fd uintptr) int {
	for {
		n := call(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&reply)), MaxReply, 0, 0, 0)
		switch errno(n) {
		case 0:
			return int(n)
		case syscall.EINTR:
		default:
			return 0
		}
	}
}

// printed writes what is behind the first byte of an answer to the standard output,
// which may be one that does not block. Where that takes it not, the plugin has to
// undo what nobody was told of.
//
//go:nosplit
func printed(end int) bool {
	for begin := 1; begin < end; {
		n := call(syscall.SYS_WRITE, 1, uintptr(unsafe.Pointer(&reply))+uintptr(begin), uintptr(end-begin), 0, 0, 0)
		switch errno(n) {
		case 0:
			begin += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN: // some of it may be out: the runtime would print all, behind that
			awaitRoom()
		default:
			return false
		}
	}
	return true
}

// awaitRoom waits until the standard output takes more, however long, as a write
// that blocks does. What comes between the next write meets again.
//
//go:nosplit
func awaitRoom() {
	const writable = 0x4 // POLLOUT
	stdout := struct {   // pollfd
		fd              int32
		events, revents int16
	}{fd: 1, events: writable}
	const forEver = ^uintptr(0) // -1 ms
	call(syscall.SYS_POLL, uintptr(unsafe.Pointer(&stdout)), 1, forEver, 0, 0, 0)
}
