package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// inTurns measures two ways by turns, and returns the figures of each.
func inTurns(rounds int, measure func(way int) (float64, error)) (figures [2][]float64, err error) {
	for i := range rounds {
		for turn := range 2 {
			way := (turn + i) % 2
			f, err := measure(way)
			if err != nil {
				return figures, err
			}
			figures[way] = append(figures[way], f)
		}
	}
	return figures, nil
}

// listen listens at an end's address.
func listen(at end) (l net.Listener, err error) {
	err = at.in(func() error {
		l, err = net.Listen("tcp", net.JoinHostPort(at.address, "0"))
		return err
	})
	return l, err
}

func dial(from end, to net.Addr) (c net.Conn, err error) {
	err = from.in(func() error {
		d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from.address)}}
		c, err = d.Dial("tcp", to.String())
		return err
	})
	return c, err
}

// transfer returns how many GB a second one end sends to another, in a second.
func transfer(from, to end) (float64, error) { return transferFor(time.Second, from, to) }

// transferFor is transfer with another time.
func transferFor(span time.Duration, from, to end) (float64, error) {
	l, err := listen(to)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return transferTo(span, from, l, l.Addr())
}

// transferTo is transferFor to a listener that is reached by an address.
func transferTo(span time.Duration, from end, l net.Listener, address net.Addr) (float64, error) {
	got := make(chan int64, 1)
	go func() {
		var n int64
		if c, err := l.Accept(); err == nil {
			n, _ = io.Copy(io.Discard, c)
			c.Close()
		}
		got <- n
	}()
	c, err := dial(from, address)
	if err != nil {
		return 0, err
	}
	buffer := make([]byte, 1<<17)
	began := time.Now()
	for time.Since(began) < span {
		if _, err := c.Write(buffer); err != nil {
			return 0, errors.Join(err, c.Close())
		}
	}
	if err := c.Close(); err != nil {
		return 0, err
	}
	return float64(<-got) / time.Since(began).Seconds() / 1e9, nil
}

// roundTrip returns the median time in microseconds from one end to another and back, of
// one byte.
func roundTrip(from, to end) (float64, error) {
	const trips = 3000
	l, err := listen(to)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	c, err := dial(from, l.Addr())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var took samples
	one := []byte{1}
	for range trips {
		began := time.Now()
		if _, err := c.Write(one); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(c, one); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	return float64(took.percentile(50).Nanoseconds()) / 1e3, nil
}

// firstAnswer has one end send to another until that answers, and returns when.
func firstAnswer(from, to end) (at time.Time, err error) {
	open := func(e end) (c *net.UDPConn, err error) {
		err = e.in(func() error {
			c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(e.address)})
			return err
		})
		return c, err
	}
	echo, err := open(to)
	if err != nil {
		return at, err
	}
	defer echo.Close()
	go func() {
		buffer := make([]byte, 1)
		for {
			_, sender, err := echo.ReadFromUDP(buffer)
			if err != nil {
				return
			}
			_, _ = echo.WriteToUDP(buffer, sender)
		}
	}()
	asks, err := open(from)
	if err != nil {
		return at, err
	}
	defer asks.Close()
	buffer := make([]byte, 1)
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); {
		if _, err := asks.WriteTo(buffer, echo.LocalAddr()); err != nil {
			return at, err
		}
		if err := asks.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			return at, err
		}
		if _, err := asks.Read(buffer); err == nil {
			return time.Now(), nil
		}
	}
	return at, fmt.Errorf("%s did not answer %s in 5 s", to.address, from.address)
}

// echo answers every connection to an end's address and port with what it sends, until stop.
func echo(at end) (stop func(), err error) {
	var l net.Listener
	err = at.in(func() error {
		l, err = net.Listen("tcp", at.address)
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return func() { _ = l.Close() }, nil
}

// askFor calls ask for a quarter of a second in an end, a second in an emulated machine, and returns how often in a second.
func askFor(from end, ask func() error) (rate float64, err error) {
	span := time.Second / 4
	if os.Getenv(inMachine) != "" {
		span = time.Second // an emulated machine opens some ten connections in a quarter of it
	}
	err = from.in(func() error {
		n, began := 0, time.Now()
		for time.Since(began) < span {
			if err := ask(); err != nil {
				return err
			}
			n++
		}
		rate = float64(n) / time.Since(began).Seconds()
		return nil
	})
	return rate, err
}

// dialTime is how long a connection may take to open, on a machine with much else to do.
const dialTime = 10 * time.Second

// connections returns how many connections to an address one end opens and resets in a second.
func connections(from end, to string) (float64, error) {
	return askFor(from, func() error {
		c, err := net.DialTimeout("tcp", to, dialTime)
		if err != nil {
			return err
		}
		return errors.Join(c.(*net.TCPConn).SetLinger(0), c.Close())
	})
}

// packets returns how many bytes go to an address and back in a second, one at a time.
func packets(from end, to string) (rate float64, err error) {
	var c net.Conn
	err = from.in(func() error {
		c, err = net.DialTimeout("tcp", to, dialTime)
		return err
	})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	one := []byte{1}
	return askFor(from, func() error {
		if _, err := c.Write(one); err != nil {
			return err
		}
		_, err := io.ReadFull(c, one)
		return err
	})
}
