package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"dcni/pkg/trust"
)

// Address returns where the door is that a user names, "HOST" or "HOST:PORT".
func Address(word string) (string, error) {
	host, port, err := net.SplitHostPort(word)
	if err != nil {
		host, port = word, strconv.Itoa(Port)
		if a, err := netip.ParseAddr(word); err == nil {
			host = a.String()
		} else if _, _, err := net.SplitHostPort(net.JoinHostPort(word, port)); err != nil || word == "" {
			return "", fmt.Errorf("%q: must be HOST or HOST:PORT of a node of the cluster", word)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("%q: must be HOST or HOST:PORT of a node of the cluster", word)
	}
	return net.JoinHostPort(host, port), nil
}

// A Caller speaks to a join door.
type Caller struct {
	Address string // HOST:PORT
	TLS     *tls.Config
	Timeout time.Duration
}

// Join asks to become a node. It returns the CA too, whose fingerprint is the token's.
// local is told this host's end of the connection, and completes the request by it.
func Join(ctx context.Context, address string, token trust.Token, now func() time.Time, timeout time.Duration, complete func(local netip.Addr) (Request, error)) (Welcome, *x509.Certificate, error) {
	var ca *x509.Certificate
	c := Caller{Address: address, Timeout: timeout, TLS: trust.Pinned(token.CA, now, func(cert *x509.Certificate) { ca = cert })}
	conn, err := c.dial(ctx)
	if err != nil {
		return Welcome{}, nil, err
	}
	defer func() { _ = conn.Close() }()
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return Welcome{}, nil, err
	}
	r, err := complete(local.Addr().Unmap().WithZone(""))
	if err != nil {
		return Welcome{}, nil, err
	}
	r.Token, r.Secret = token.ID, token.Secret
	var w Welcome
	err = c.post(ctx, conn, "/join", r, &w)
	return w, ca, err
}

// Renew asks for another certificate, with the one that a node has.
func (c Caller) Renew(ctx context.Context, r RenewRequest) (Renewed, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return Renewed{}, err
	}
	defer func() { _ = conn.Close() }()
	var out Renewed
	err = c.post(ctx, conn, "/renew", r, &out)
	return out, err
}

// Authority asks for the CA's key, with the certificate that a node has.
func (c Caller) Authority(ctx context.Context, r AuthorityRequest) (Authority, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return Authority{}, err
	}
	defer func() { _ = conn.Close() }()
	var out Authority
	err = c.post(ctx, conn, "/ca", r, &out)
	return out, err
}

// dial connects, and makes sure of whom it is connected to.
func (c Caller) dial(ctx context.Context) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("%s is not reachable (TCP, port %s is for joining): %w", c.Address, portOf(c.Address), plain(err))
	}
	config := c.TLS.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(c.Address)
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("%s: %w", c.Address, err)
	}
	return conn, nil
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// plain takes the address off a dialer's error, which names it again.
func plain(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err
	}
	return err
}

// post sends one request on a connection, and reads the answer.
func (c Caller) post(ctx context.Context, conn net.Conn, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true,
	}
	client := &http.Client{Transport: transport, Timeout: c.Timeout + answerTime}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.Address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r, err := client.Do(q)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Address, err)
	}
	defer func() { _ = r.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return fmt.Errorf("%s: %w", c.Address, err)
	}
	if r.StatusCode != http.StatusOK {
		var f failure
		if json.Unmarshal(data, &f) != nil || f.Error == "" {
			f.Error = r.Status + ": no join door of dcni answers there"
		}
		return fmt.Errorf("%s: %s", c.Address, f.Error)
	}
	return json.Unmarshal(data, out)
}
