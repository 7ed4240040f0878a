// Talk is what containers of the scenarios run: it answers, asks and looks names up, in the
// same words wherever it runs.
//
//	talk serve NAME [PORT[/udp]...]   answer "NAME from ADDRESS" until SIGTERM
//	talk ask HOST:PORT[/udp]          print the answer, or why there is none
//	talk lookup NAME|ADDRESS          print the addresses of a name, or the names of an address
//
// What does not come within TALK_PATIENCE (a Go duration, 1s by default) is not waited for. ask and lookup
// exit with status 0 whatever they print: it is what they saw.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 3 {
		fail(errors.New("want talk serve NAME [PORT...], ask HOST:PORT or lookup NAME"))
	}
	switch args := os.Args[2:]; os.Args[1] {
	case "serve":
		fail(serve(args[0], args[1:]))
	case "ask":
		fmt.Println(ask(args[0]))
	case "lookup":
		fmt.Println(lookup(args[0]))
	default:
		fail(errors.New("unknown command " + os.Args[1]))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "talk:", err)
		os.Exit(1)
	}
}

// serve answers on all addresses of both families until SIGTERM or SIGINT.
func serve(name string, ports []string) error {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	for _, port := range ports {
		number, udp := strings.CutSuffix(port, "/udp")
		if udp {
			conn, err := net.ListenPacket("udp", ":"+number)
			if err != nil {
				return err
			}
			go answerPackets(conn, name)
			continue
		}
		l, err := net.Listen("tcp", ":"+number)
		if err != nil {
			return err
		}
		go answer(l, name)
	}
	<-end
	return nil
}

func answer(l net.Listener, name string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(conn, "%s from %s\n", name, host(conn.RemoteAddr())) // a client that is gone asks again
		_ = conn.Close()
	}
}

func answerPackets(conn net.PacketConn, name string) {
	buf := make([]byte, 64)
	for {
		_, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo([]byte(name+" from "+host(from)+"\n"), from) // likewise
	}
}

func host(a net.Addr) string {
	h, _, _ := net.SplitHostPort(a.String()) // it has a port
	return h
}

// patience is how long an answer may take.
func patience() time.Duration {
	d, err := time.ParseDuration(os.Getenv("TALK_PATIENCE"))
	if err != nil {
		return time.Second
	}
	return d
}

// ask returns the answer of a server, or why there is none. It asks again where the server may
// not listen yet, be it behind a proxy that does.
func ask(address string) string {
	network := "tcp"
	bare, udp := strings.CutSuffix(address, "/udp")
	if udp {
		network = "udp"
	}
	deadline := time.Now().Add(patience())
	var before error
	for {
		answer, err := askOnce(network, bare, deadline)
		if err == nil {
			return answer
		}
		const pause = 50 * time.Millisecond
		early := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
		if !early && before != nil && time.Until(deadline) <= 0 {
			err = before // the time was over in the midst of the last attempt
		}
		if time.Until(deadline) < 2*pause || !early {
			return reason(err)
		}
		before = err
		time.Sleep(pause)
	}
}

func askOnce(network, address string, deadline time.Time) (string, error) {
	d := net.Dialer{Deadline: deadline, FallbackDelay: -1} // one family after the other
	conn, err := d.Dial(network, address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // only read from
	buf := make([]byte, 256)
	for {
		until := deadline
		if network == "udp" { // a datagram may be lost
			if _, err := conn.Write([]byte("?")); err != nil {
				return "", err
			}
			if soon := time.Now().Add(200 * time.Millisecond); soon.Before(until) {
				until = soon
			}
		}
		_ = conn.SetReadDeadline(until) // a connection that is open takes one
		n, err := conn.Read(buf)
		if err == nil {
			return strings.TrimSpace(string(buf[:n])), nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Until(deadline) <= 0 {
			return "", err
		}
	}
}

// reason says in a few words why there is no answer.
func reason(err error) string {
	var name *net.DNSError
	var slow net.Error
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return "no such name"
	case errors.As(err, &name):
		return "no answer about the name"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF):
		return "closed"
	case errors.Is(err, syscall.ENETUNREACH):
		return "network is unreachable"
	case errors.As(err, &slow) && slow.Timeout(), errors.Is(err, syscall.EHOSTUNREACH):
		return "no answer" // it depends on the time that the kernel waits for a neighbour
	}
	return err.Error()
}

// lookup returns the addresses of a name, or the names of an address.
func lookup(what string) string {
	const most = 5 * time.Second // a server outside may be waited for
	ctx, cancel := context.WithTimeout(context.Background(), max(patience(), most))
	defer cancel()
	var found []string
	var err error
	if net.ParseIP(what) != nil {
		found, err = net.DefaultResolver.LookupAddr(ctx, what)
	} else {
		found, err = net.DefaultResolver.LookupHost(ctx, what)
	}
	if err != nil {
		return what + ": " + reason(err)
	}
	slices.Sort(found)
	return what + ": " + strings.Join(slices.Compact(found), " ")
}
