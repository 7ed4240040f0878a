package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cmdAssociate makes an SCTP association, which lasts until the script ends.
func cmdAssociate(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 5 || neg {
		ts.Fatalf("usage: associate CLIENT PORT ADDR:PORT SERVER PORT")
	}
	from, to, port := portOf(ts, args[1]), netip.MustParseAddrPort(args[2]), portOf(ts, args[4])
	any := netip.IPv4Unspecified()
	if to.Addr().Is6() {
		any = netip.IPv6Unspecified()
	}
	var l net.Listener
	ts.Check(of(ts).In(args[3], func() (err error) {
		l, err = listenStream(endpoint{netip.AddrPortFrom(any, port), "sctp"})
		return err
	}))
	ts.Defer(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = io.Copy(conn, conn)
		}
	}()
	ts.Check(of(ts).In(args[0], func() error {
		conn, err := associate(netip.AddrPortFrom(any, from), to)
		if err != nil {
			return err
		}
		ts.Defer(func() { _ = conn.Close() })
		return say(conn)
	}))
}

func associate(from, to netip.AddrPort) (net.Conn, error) {
	f, err := socket("sctp", to.Addr().Is6())
	if err != nil {
		return nil, err
	}
	defer f.Close() // FileConn has its own copy
	if err := errors.Join(unix.Bind(int(f.Fd()), sockaddr(from)), unix.Connect(int(f.Fd()), sockaddr(to))); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// cmdAborted sends data of no association, and wants an abort as the answer.
func cmdAborted(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: aborted NS PORT ADDR:PORT")
	}
	from, to := portOf(ts, args[1]), netip.MustParseAddrPort(args[2])
	finish(ts, neg, of(ts).In(args[0], func() error { return aborted(from, to) }))
}

func aborted(from uint16, to netip.AddrPort) error {
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	step := unix.NsecToTimeval(int64(200 * time.Millisecond))
	address := sockaddr(netip.AddrPortFrom(to.Addr(), 0)) // a raw socket has no port
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &step), unix.Sendto(fd, strayData(from, to.Port()), 0, address)); err != nil {
		return err
	}
	const abort = 6
	buf := make([]byte, 2048)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			continue // nothing came
		}
		b := buf[:n]
		if to.Addr().Is4() {
			b = b[int(b[0]&0xf)*4:]
		}
		if len(b) > 12 && binary.BigEndian.Uint16(b) == to.Port() && binary.BigEndian.Uint16(b[2:]) == from && b[12] == abort {
			return nil
		}
	}
	return fmt.Errorf("no abort from %s", to)
}

// strayData is a packet of SCTP (RFC 9260) with one chunk of data, and a tag that no
// association has.
func strayData(from, to uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = append(b, 1, 2, 3, 4, 0, 0, 0, 0)                          // tag, sum
	b = append(b, 0, 3, 0, 20, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0) // DATA, whole; number, stream, place in it, protocol
	b = append(b, "abcd"...)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func portOf(ts *testscript.TestScript, s string) uint16 {
	n, err := strconv.ParseUint(s, 10, 16)
	ts.Check(err)
	return uint16(n)
}
