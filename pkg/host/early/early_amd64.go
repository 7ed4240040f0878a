package early

import (
	"syscall"
	"unsafe"
)

// What runs before the runtime has no stack to grow, no heap, and nobody who
// would print a panic: all of it is //go:nosplit, calls nothing else, and stays
// inside of what is there already.

// entry is where the program begins.
func entry()

var _, _ = entry, handOver // by the linker's flag and by entry

var (
	stack   unsafe.Pointer // where the kernel put the arguments and the environment
	storage [128]byte      //nolint:unused // is entry's: thread-local; FS points to its middle, and g is 8 bytes below that: nil
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
			_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, uintptr(reply[0]), 0, 0)
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
	if *(*int)(stack) != 1 { // arguments: somebody wants something else
		return false
	}
	wanted := false
	write(Greeting)
	write(Version)
	environment := unsafe.Add(stack, 3*word) // behind the count, one argument, and nil
	for ; *(*unsafe.Pointer)(environment) != nil; environment = unsafe.Add(environment, word) {
		variable := *(*unsafe.Pointer)(environment)
		if !begins(variable, "CNI_") {
			continue
		}
		wanted = wanted || begins(variable, "CNI_COMMAND=ADD\x00") || begins(variable, "CNI_COMMAND=DEL\x00") ||
			begins(variable, "CNI_COMMAND=CHECK\x00")
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

// begins reports whether a string that ends with a zero byte begins so.
//
//go:nosplit
func begins(s unsafe.Pointer, with string) bool {
	for i := range len(with) {
		if *(*byte)(unsafe.Add(s, i)) != with[i] {
			return false
		}
	}
	return true
}

// write appends a string to the message, and a zero byte.
//
//go:nosplit
func write(s string) {
	for i := range len(s) {
		writeByte(s[i])
	}
	writeByte(0)
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
		n, _, err := syscall.RawSyscall(syscall.SYS_READ, 0,
			uintptr(unsafe.Pointer(&message.data))+uintptr(message.end), uintptr(len(message.data)-message.end))
		switch {
		case err == syscall.EINTR:
		case err != 0:
			return false // the runtime meets it again
		case n == 0:
			return true
		default:
			message.end += int(n)
		}
	}
	return false
}

// connect connects to dnetd.
//
//go:nosplit
func connect() (fd uintptr, ok bool) {
	fd, _, err := syscall.RawSyscall(syscall.SYS_SOCKET, syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != 0 {
		return 0, false
	}
	if fd <= 2 { // one of those was closed, and this would be taken for it
		shut(fd)
		return 0, false
	}
	limit := syscall.Timeval{Sec: Timeout}
	at := syscall.RawSockaddrUnix{Family: syscall.AF_UNIX}
	for i := range len(Socket) {
		at.Path[i] = int8(Socket[i])
	}
	option(fd, syscall.SO_SNDTIMEO, &limit)
	option(fd, syscall.SO_RCVTIMEO, &limit)
	const size = unsafe.Offsetof(at.Path) + uintptr(len(Socket)) + 1
	if _, _, err := syscall.RawSyscall(syscall.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&at)), size); err != 0 {
		shut(fd)
		return 0, false
	}
	return fd, true
}

// option sets a limit of time. A kernel that takes none lets it last.
//
//go:nosplit
func option(fd, name uintptr, limit *syscall.Timeval) {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, fd, syscall.SOL_SOCKET, name,
		uintptr(unsafe.Pointer(limit)), unsafe.Sizeof(*limit), 0)
}

// shut closes a socket. Nothing is lost with it.
//
//go:nosplit
func shut(fd uintptr) { _, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0) }

// send sends the message.
//
//go:nosplit
func send(fd uintptr) bool {
	_, _, err := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&message.data)), uintptr(message.end),
		syscall.MSG_NOSIGNAL, 0, 0)
	return err == 0
}

// answer waits for dnetd's, which may be late or dead. It returns the length, 0
// for none.
//
//go:nosplit
func answer(fd uintptr) int {
	for {
		n, _, err := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&reply)), MaxReply)
		switch err {
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
		n, _, err := syscall.RawSyscall(syscall.SYS_WRITE, 1, uintptr(unsafe.Pointer(&reply))+uintptr(begin), uintptr(end-begin))
		switch err {
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
	_, _, _ = syscall.RawSyscall(syscall.SYS_POLL, uintptr(unsafe.Pointer(&stdout)), 1, forEver)
}
