// Package etcd is an [overlay.Store] on etcd, 3.4 or later: the only place that knows
// etcd's client. Package member, below it, runs etcd.
//
// All that it asks takes [Config.Timeout] at most. A watch that has heard nothing from
// etcd for 10 seconds, though it asks, ends with ErrUnavailable.
package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"dcni/pkg/overlay"
)

const (
	defaultTimeout = 5 * time.Second
	syncEvery      = 30 * time.Second

	// A member that is gone is noticed before watches give it up. Servers refuse
	// clients that ask more often than each 5 s.
	pingEvery   = 6 * time.Second
	pingTimeout = 3 * time.Second

	// A request that finds no connection, as the one before did, waits no longer for one
	// than this: the caller has other things to do, as a container to stop.
	awayTimeout = time.Second
	// No member knew a leader: they choose one within a second or two.
	leaderPause = 50 * time.Millisecond
)

// reconnect is how often a member is tried that is gone: gRPC's own pauses grow to two
// minutes, in which a member that is back would not be found.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: awayTimeout / 2},
	MinConnectTimeout: pingTimeout,
}

// Config is where etcd is, and how to get in.
type Config struct {
	Endpoints []string      // URLs of members, https://10.0.0.1:2379; all https, or all http
	TLS       TLS           // for https
	Timeout   time.Duration // of each request; 0: 5 s
	// Fixed keeps to the endpoints, as behind a load balancer. Otherwise etcd is asked
	// every 30 s where its members are.
	Fixed bool
}

// TLS is how a client and etcd know each other.
type TLS struct {
	CA        string         // file, PEM, of etcd's CA; "": Pool
	Pool      *x509.CertPool // nil: the system's
	Cert, Key string         // files, PEM, of the client's certificate; read for each connection, so that they may be renewed. Both or none
}

// A Store is a client of etcd.
type Store struct {
	client  *clientv3.Client
	timeout time.Duration
	trouble atomic.Pointer[string] // why there was no connection, if nothing has succeeded since
	away    atomic.Bool            // the last request that ended was not answered
}

// Open returns a client. It doesn't wait for etcd, which may be away.
func Open(c Config) (*Store, error) {
	secure, err := c.secure()
	if err != nil {
		return nil, err
	}
	config := clientv3.Config{
		Endpoints:            c.Endpoints,
		DialKeepAliveTime:    pingEvery,
		DialKeepAliveTimeout: pingTimeout,
		Logger:               zap.NewNop(), // what goes wrong is returned
	}
	if !c.Fixed {
		config.AutoSyncInterval = syncEvery
	}
	if secure {
		if config.TLS, err = c.TLS.config(); err != nil {
			return nil, err
		}
	}
	s := &Store{timeout: c.Timeout}
	if s.timeout == 0 {
		s.timeout = defaultTimeout
	}
	config.DialTimeout = s.timeout
	config.DialOptions = []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(s.unary), grpc.WithChainStreamInterceptor(s.stream), grpc.WithConnectParams(reconnect),
	}
	if s.client, err = clientv3.New(config); err != nil {
		return nil, fmt.Errorf("etcd client of %s: %w", strings.Join(c.Endpoints, ", "), err)
	}
	return s, nil
}

// secure checks the endpoints and reports whether they are https.
func (c Config) secure() (bool, error) {
	if len(c.Endpoints) == 0 {
		return false, errors.New("etcd: no endpoint is given, such as https://10.0.0.1:2379")
	}
	scheme := ""
	for _, e := range c.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || u.Port() == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			return false, fmt.Errorf("etcd endpoint %q: must be https://HOST:PORT or http://HOST:PORT", e)
		}
		if scheme != "" && u.Scheme != scheme {
			return false, fmt.Errorf("etcd endpoint %q: must be %s, as the first one is", e, scheme)
		}
		scheme = u.Scheme
	}
	if scheme == "http" && c.TLS != (TLS{}) {
		return false, fmt.Errorf("etcd endpoint %q: must be https where a CA or a certificate is given", c.Endpoints[0])
	}
	return scheme == "https", nil
}

// config reads the CA, and sees whether the certificate can be read.
func (t TLS) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.Pool}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("etcd's CA: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd's CA %q: has no certificate in PEM", t.CA)
		}
	}
	if t.Cert == "" && t.Key == "" {
		return c, nil
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := t.load()
		if err == nil && time.Now().After(pair.Leaf.NotAfter) { // etcd would close the connection, mostly without a word
			err = fmt.Errorf("certificate for etcd, %q: it has expired on %s", t.Cert, pair.Leaf.NotAfter.UTC().Format(time.DateOnly))
		}
		return pair, err
	}
	_, err := t.load() // one that has expired may be renewed yet
	return c, err
}

func (t TLS) load() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate for etcd, %q with key %q: %w", t.Cert, t.Key, err)
	}
	return &pair, nil
}

// Close ends the client, and what goes on with it.
func (s *Store) Close() error { return s.client.Close() }

// Endpoints returns the URLs of the members that are asked, in order.
func (s *Store) Endpoints() []string {
	list := slices.Clone(s.client.Endpoints())
	slices.Sort(list)
	return list
}

// patience is how long a request may take.
func (s *Store) patience() time.Duration {
	if s.away.Load() && s.client.ActiveConnection().GetState() != connectivity.Ready {
		return min(s.timeout, awayTimeout)
	}
	return s.timeout
}

// limit returns a context for one request.
func (s *Store) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.patience())
}

// led returns a context for one request that the members answer together. A member that
// knows no leader would keep such a request until its time is over, and refuses it at once
// where it says so.
func (s *Store) led(ctx context.Context) (context.Context, context.CancelFunc) {
	return s.limit(clientv3.WithRequireLeader(ctx))
}

// failed returns what etcd's error is to the callers of a [overlay.Store]. The context is
// the caller's.
func (s *Store) failed(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return overlay.ErrCompacted
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case ctx.Err() != nil:
		return s.why(fmt.Errorf("%w: %s: %w", overlay.ErrUnavailable, s.asked(), ctx.Err()))
	case errors.Is(err, context.DeadlineExceeded):
		return s.silent(s.patience())
	case denied(err):
		return fmt.Errorf("%s: %w", s.asked(), ErrDenied)
	case refused(err):
		return fmt.Errorf("%s: %w", s.asked(), err)
	}
	return fmt.Errorf("%w: %s: %w", overlay.ErrUnavailable, s.asked(), err)
}

// silent returns the error of what was not answered.
func (s *Store) silent(limit time.Duration) error {
	return s.why(fmt.Errorf("%w: %s: no answer within %v", overlay.ErrUnavailable, s.asked(), limit))
}

// why adds to an error why there is no connection, where that is known.
func (s *Store) why(err error) error {
	if trouble := s.trouble.Load(); trouble != nil {
		return fmt.Errorf("%w: %s", err, *trouble)
	}
	return err
}

// unary sees what the client is told, which waits for a connection until the time is
// over, and does not say why there was none.
func (s *Store) unary(ctx context.Context, method string, req, reply any, c *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption) error {
	err := s.turn(ctx, func() error { return call(ctx, method, req, reply, c, options...) })
	s.note(err)
	code := status.Code(err)
	s.away.Store(code == codes.Unavailable || code == codes.DeadlineExceeded)
	return err
}

// turn calls until a member answers that knows a leader: gRPC asks the members in turn, and
// one that has no leader has done nothing. After a round of all of them it waits a moment.
func (s *Store) turn(ctx context.Context, call func() error) error {
	members := len(s.client.Endpoints())
	for asked := 1; ; asked++ {
		err := call()
		if !errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) {
			return err
		}
		if asked%members != 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(leaderPause):
		}
	}
}

func (s *Store) stream(ctx context.Context, d *grpc.StreamDesc, c *grpc.ClientConn, method string, call grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := call(ctx, d, c, method, options...)
	s.note(err)
	return stream, err
}

// note notes why there is no connection.
func (s *Store) note(err error) {
	if err == nil {
		s.trouble.Store(nil)
		return
	}
	_, reason, ok := strings.Cut(status.Convert(err).Message(), "latest balancer error: ")
	if !ok {
		return
	}
	if quoted, ok := strings.CutPrefix(reason, "connection error: desc = "); ok {
		if inner, err := strconv.Unquote(quoted); err == nil {
			reason = strings.TrimPrefix(inner, "transport: ")
		}
	}
	s.trouble.Store(&reason)
}

func (s *Store) asked() string { return strings.Join(s.Endpoints(), ", ") }

// ErrDenied says that etcd does not let the client at keys.
var ErrDenied = errors.New("etcd does not permit this client's user to read and write there: grant the user a role with readwrite on the prefix")

// denied reports whether it is that. Of a watch etcd sends the reason as text.
func denied(err error) bool {
	return errors.Is(err, rpctypes.ErrPermissionDenied) || status.Code(err) == codes.PermissionDenied ||
		err != nil && strings.HasSuffix(err.Error(), rpctypes.ErrPermissionDenied.Error())
}

// refused reports whether etcd is well and what it was asked is wrong, such as a value
// that is too long.
func refused(err error) bool {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code() == codes.InvalidArgument
	}
	return status.Code(err) == codes.InvalidArgument
}
