package main

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"dcni/integration/testhost"
)

// inSandbox runs f in the namespace of container i, on a thread that never leaves
// it: the program ends soon.
func inSandbox(i int, f func() error) error {
	file, err := os.Open(testhost.NetNSPath(sandbox(i)))
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the sandbox: %w", err)
	}
	return f()
}

// nameServer makes in the thread's namespace what names need there: a UDP and a
// TCP socket at a port of 127.0.0.11, and the table that redirects port 53 there.
func nameServer() error {
	address := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 11}}
	for _, kind := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		if err := unix.Bind(fd, address); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
		bound, err := unix.Getsockname(fd)
		if err != nil {
			return fmt.Errorf("getsockname: %w", err)
		}
		address.Port = bound.(*unix.SockaddrInet4).Port // the same for TCP
		if kind == unix.SOCK_STREAM {
			if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
				return fmt.Errorf("listen: %w", err)
			}
		}
	}
	port := uint16(address.Port)
	return nameTable(func(conn *nftables.Conn, table *nftables.Table) {
		conn.AddTable(table)
		chain := conn.AddChain(&nftables.Chain{
			Table: table, Name: "nameserver", Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRaw,
		})
		for protocol, checksum := range map[byte]uint32{unix.IPPROTO_UDP: 6, unix.IPPROTO_TCP: 16} {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rewrite(protocol, checksum, 16, 2, 53, port)})
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rewrite(protocol, checksum, 12, 0, port, 53)})
		}
	})
}

// nameTable changes the table in the thread's namespace, in one batch.
func nameTable(change func(*nftables.Conn, *nftables.Table)) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	change(conn, &nftables.Table{Name: "dcni", Family: nftables.TableFamilyIPv4})
	return conn.Flush()
}

// rewrite has packets with 127.0.0.11 at one place of the IPv4 header, and a port
// at another of the transport header, carry another port.
func rewrite(protocol byte, checksum, address, at uint32, from, to uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: address, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: net.IPv4(127, 0, 0, 11).To4()},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(from)},
		&expr.Notrack{},
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(to)},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: checksum,
		},
	}
}
