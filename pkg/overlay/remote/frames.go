// Package remote is an [overlay.Store] behind a unix socket: dclusterd serves the one
// that it has open, and plugins, dnetd and dnet use it, which so link no etcd.
//
// Both sides send frames: four bytes of length, big endian, then as many of JSON. A
// client sends a request and reads the answer, before it sends the next one on the
// connection. List and Watch are answered with several frames, of which the last says so.
// A client that closes its side ends what it asked for.
//
// Errors keep their kind: those of package overlay, and the code of a [wire.Error].
//
// The socket has mode 0600 and is root's. To connect takes the right to write to it
// (unix(7)), so that no other user is served, and who is connected need not be asked.
package remote

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"dcni/pkg/jsonenc"
	"dcni/pkg/overlay"
	"dcni/pkg/wire"
)

// DefaultSocket is where dclusterd listens.
const DefaultSocket = "/run/dcni/dclusterd.sock"

// maxFrame is the limit of a frame in bytes. The longest are transactions, of 1.5 MiB at
// most (etcd's --max-request-bytes), in base64.
const maxFrame = 4 << 20

// Self is what a node knows of itself.
type Self struct {
	Node    string     `json:"node"`
	Cluster string     `json:"cluster"`        // its ID
	Prefix  string     `json:"prefix"`         // of the cluster's keys, as [overlay.Keys] has it
	Members []string   `json:"members"`        // URLs of the store's
	Local   netip.Addr `json:"local"`          // of the underlay, where other nodes send to
	MTU     int        `json:"mtu"`            // bytes, of the underlay
	Ports   Ports      `json:"ports,omitzero"` // zero: as [overlay.Meta] says
	// ComputeSums says that the kernel is to compute checksums of what goes into VXLAN: the NIC
	// does it wrongly.
	ComputeSums bool `json:"computeSums,omitempty"`
	// Refused is why the cluster does not have the node: it was removed, or another host is
	// it by now. It attaches nothing then.
	Refused string `json:"refused,omitempty"`
}

// Ports are the UDP ports of VXLAN of a cluster's networks, and of the encrypted ones.
type Ports struct {
	VXLAN int `json:"vxlan"`
	ESP   int `json:"esp"`
}

// The requests.
const (
	opGet    = "get"    // key -> entry
	opList   = "list"   // key -> entries, ..., revision
	opCommit = "commit" // txn -> done, revision
	opWatch  = "watch"  // key, after -> revision and events, ...
	opKeep   = "keep"   // key, value, ttl -> nothing, at the end
	opSelf   = "self"   // -> self
	opAdmin  = "admin"  // verb, args -> result
)

type request struct {
	Op    string          `json:"op"`
	Key   string          `json:"key,omitempty"` // or a prefix
	Value []byte          `json:"value,omitempty"`
	TTL   int             `json:"ttl,omitempty"`
	After int64           `json:"after,omitempty"`
	Txn   *overlay.Txn    `json:"txn,omitempty"`
	Verb  string          `json:"verb,omitempty"`
	Args  json.RawMessage `json:"args,omitempty"`
}

type reply struct {
	Last     bool            `json:"last,omitempty"` // nothing else comes
	Failure  *failure        `json:"failure,omitempty"`
	Entry    *overlay.Entry  `json:"entry,omitempty"`
	Entries  []overlay.Entry `json:"entries,omitempty"`
	Events   []overlay.Event `json:"events,omitempty"`
	Revision int64           `json:"revision,omitempty"`
	Done     bool            `json:"done,omitempty"`
	Self     *Self           `json:"self,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
}

// A failure is an error on its way.
type failure struct {
	Message string    `json:"message"`
	Kind    string    `json:"kind,omitempty"` // in kinds
	Code    wire.Code `json:"code,omitempty"` // of a wire.Error
}

var kinds = map[string]error{
	"not found":   overlay.ErrNotFound,
	"unavailable": overlay.ErrUnavailable,
	"compacted":   overlay.ErrCompacted,
}

// fail returns an error as it is sent. A context that ended is the server's: a client
// that ends its own reads no answer.
func fail(err error) *failure {
	f := &failure{Message: err.Error()}
	for kind, e := range kinds {
		if errors.Is(err, e) {
			f.Kind = kind
		}
	}
	if f.Kind == "" && errors.Is(err, context.Canceled) {
		f.Kind, f.Message = "unavailable", overlay.ErrUnavailable.Error()+": the server ends"
	}
	var coded *wire.Error
	if errors.As(err, &coded) {
		f.Code = coded.Code
	}
	return f
}

// err returns the error that a failure tells of, or nil.
func (f *failure) err() error {
	if f == nil {
		return nil
	}
	e := &remoteError{message: f.Message}
	if kind := kinds[f.Kind]; kind != nil {
		e.is = append(e.is, kind)
	}
	if f.Code != 0 {
		e.is = append(e.is, wire.Errorf(f.Code, "%s", f.Message))
	}
	return e
}

// A remoteError is an error of the other side.
type remoteError struct {
	message string
	is      []error
}

func (e *remoteError) Error() string   { return e.message }
func (e *remoteError) Unwrap() []error { return e.is }

// A conn sends and reads frames.
type conn struct {
	*net.UnixConn
	in *bufio.Reader
}

func newConn(c *net.UnixConn) *conn { return &conn{UnixConn: c, in: bufio.NewReader(c)} }

// errFrame says that the other side does not send frames: what comes next can't be read.
var errFrame = errors.New("not a frame")

// packRequest returns a request as it is sent. A plugin sends one or two in its life.
func packRequest(q request) ([]byte, error) {
	data, err := jsonenc.Marshal(q, "")
	if err != nil {
		return nil, err
	}
	return pack(data)
}

// pack returns the frame of a message, which is sent by one system call.
func pack(data []byte) ([]byte, error) {
	if len(data) > maxFrame {
		return nil, fmt.Errorf("a message of %d bytes: at most %d can be sent to dclusterd or by it", len(data), maxFrame)
	}
	frame := make([]byte, 0, 4+len(data))
	return append(binary.BigEndian.AppendUint32(frame, uint32(len(data))), data...), nil
}

// receive reads a frame. Its error is io.EOF where the other side has closed its own
// between two.
func (c *conn) receive() ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(c.in, header[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(header[:])
	if n == 0 || n > maxFrame {
		return nil, fmt.Errorf("%w: it is of %d bytes, must be 1 to %d", errFrame, n, maxFrame)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(c.in, data); err != nil {
		return nil, err
	}
	return data, nil
}
