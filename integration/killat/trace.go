package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A tracer kills each process at its n-th call that counts.
type tracer struct {
	n      int
	isSend bool        // calls are sendto: those that only ask don't count
	counts map[int]int // of calls, by process
}

// trace traces until the last process has ended, and returns how the first did.
func (t tracer) trace(first int) (result unix.WaitStatus, err error) {
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return result, nil
		case err != nil:
			return result, err
		}
		if !status.Stopped() {
			if tid == first {
				result = status
			}
			continue
		}
		signal := 0
		switch event := status >> 16; event {
		case 0:
			signal = int(status.StopSignal())
		case unix.PTRACE_EVENT_SECCOMP:
			if err := t.enters(tid); err != nil {
				return result, err
			}
		}
		if err := unix.PtraceCont(tid, signal); err != nil && !errors.Is(err, unix.ESRCH) { // it has been killed
			return result, err
		}
	}
}

// enters counts a call that a thread enters, and kills its process there if it is the n-th.
func (t tracer) enters(tid int) error {
	if t.isSend && t.asks(tid) {
		return nil
	}
	pid, err := processOf(tid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil // it has been killed, by others
	}
	if err != nil {
		return err
	}
	if t.counts[pid]++; t.counts[pid] == t.n {
		return unix.Kill(pid, unix.SIGKILL)
	}
	return nil
}

// processOf returns the process that a thread is of.
func processOf(tid int) (pid int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte("\nTgid:\t"))
	number, _, _ := bytes.Cut(rest, []byte("\n"))
	return strconv.Atoi(string(number))
}

// asks reports whether what a thread is about to send is a question to the kernel.
func (t tracer) asks(tid int) bool {
	// struct ptrace_syscall_info: the arguments come behind op, arch, two pointers and the call's number.
	var info [88]byte
	const arguments = 32
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), uintptr(len(info)), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return false
	}
	address := binary.NativeEndian.Uint64(info[arguments+8:])
	length := binary.NativeEndian.Uint64(info[arguments+16:])
	message := make([]byte, min(length, 1<<20))
	if len(message) == 0 {
		return false
	}
	local := []unix.Iovec{{Base: &message[0], Len: uint64(len(message))}}
	n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(address), Len: len(message)}}, 0)
	return err == nil && n == int(length) && isQuestion(message)
}

// isQuestion reports whether all messages of netlink in a datagram get something.
func isQuestion(datagram []byte) bool {
	if len(datagram) < unix.NLMSG_HDRLEN {
		return false
	}
	for len(datagram) >= unix.NLMSG_HDRLEN {
		length := int(binary.NativeEndian.Uint32(datagram))
		if length < unix.NLMSG_HDRLEN || length > len(datagram) || !gets(binary.NativeEndian.Uint16(datagram[4:])) {
			return false
		}
		datagram = datagram[min((length+3)&^3, len(datagram)):]
	}
	return len(datagram) == 0
}

// gets reports whether a type of message is one that changes nothing, of rtnetlink, of conntrack or of
// nf_tables.
func gets(typ uint16) bool {
	switch message := typ & 0xff; typ >> 8 {
	case 0:
		return message >= unix.RTM_BASE && message%4 == unix.RTM_GETLINK%4
	case unix.NFNL_SUBSYS_CTNETLINK:
		return message == 1 // IPCTNL_MSG_CT_GET
	case unix.NFNL_SUBSYS_NFTABLES:
		switch message {
		case unix.NFT_MSG_GETTABLE, unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE, unix.NFT_MSG_GETSET, unix.NFT_MSG_GETSETELEM, unix.NFT_MSG_GETGEN:
			return true
		}
	}
	return false
}
