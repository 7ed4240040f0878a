// Package keys is the key exchange of encrypted overlay networks: which states of ESP
// (RFC 4303) a node has with each other node, and what it says of itself in the cluster's
// store so that they have theirs. It decides from values: time and randomness are
// arguments, and [Machine.Objects] are for the caller to make so.
//
// # Keys
//
// Each node has a sender's key, drawn when its agent starts, and a receiver's key, drawn
// anew with each generation: every eleven to twelve hours, when a counter is half used, when asked,
// and when a state was lost. Both are X25519 (RFC 7748). The state from S to R under an
// index (SPI) that R drew has
//
//	HKDF-SHA256(X25519(S's sender key, R's receiver key), info)   RFC 5869
//	info = "dcni esp 1", cluster, S, R, S's public key, R's public key, SPI
//
// the first 16 bytes of which are the AES key and the last 4 the salt of
// rfc4106(gcm(aes)) (RFC 4106, section 8.1).
//
// # Order
//
// The receiver rotates: it makes its inbound states, and only then says which they are. What is said is there, so a sender changes over as soon as it
// sees it, and no packet meets a missing state. The state before stays until it was unused
// for a minute in which its sender was in the cluster: a sender that is cut off from the
// store goes on with it.
//
// A state is never made twice with the same key: its sequence numbers, which are the
// cipher's nonces, would start anew. A node that lost inbound states begins a generation,
// and one that lost outbound states draws a new sender's key.
//
// # Records
//
// A node's record, key/NAME, has its sender's key: each node reads it of all others. What
// else it says, its receiver's key and which state it has for each sender, is in pages,
// keypage/PAGE/NAME ([overlay.KeyPageOf]): a sender reads that page of each node which is
// for it. So a node that comes has every other one write one page, which few read, and not
// a record with a line for each node, which all read.
//
// # Trust
//
// A record is signed by the key of its node's certificate, which the cluster's CA signed:
// who can write to the store, and has no such key, can't put himself in the middle. He can
// keep nodes from talking: by taking records away, or by putting old ones back.
package keys

import (
	"crypto"
	"crypto/ecdh"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"dcni/pkg/overlay"
)

// Keys is what a node says of itself.
type Keys struct {
	Cluster  string             // the cluster's ID
	Node     string             // the node's name
	Sender   []byte             // X25519, 32 bytes
	Receiver []byte             // of the newest generation
	Inbound  map[string]Inbound // which state it has for each sender, by name
}

// Inbound is a state that a receiver has for a sender, made with its newest key.
type Inbound struct {
	Of  string // the sender's key, see [ID]
	SPI uint32
}

// idLen is how many bytes of a SHA-256 name a public key, and a node in a page.
const idLen = 8

// ID names a public key: 16 hexadecimal digits.
func ID(public []byte) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:idLen])
}

// said is what a record or a page says.
type said struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	Sender  []byte `json:"sender,omitempty"` // a record's

	// A page's. Inbound has 20 bytes for each sender: the first 8 of the SHA-256 of its
	// name, the ID of its key, the SPI. They are sorted.
	Receiver []byte `json:"receiver,omitempty"`
	Inbound  []byte `json:"inbound,omitempty"`
}

// Values are what the store is to have of a node's [Keys], not signed yet: see [Sign].
type Values struct {
	Record []byte         // of key/NAME
	Pages  map[int][]byte // of keypage/PAGE/NAME, by page; one that is for no sender is not there
}

// Values returns them. The same keys have the same values.
func (k Keys) Values() (Values, error) {
	pages := map[int][]byte{}
	for _, name := range slices.Sorted(maps.Keys(k.Inbound)) {
		in := k.Inbound[name]
		of, err := hex.DecodeString(in.Of)
		if err != nil || len(of) != idLen {
			return Values{}, fmt.Errorf("key %q of node %s: must be 16 hexadecimal digits", in.Of, name)
		}
		hash := sha256.Sum256([]byte(name))
		entry := binary.BigEndian.AppendUint32(append(hash[:idLen:idLen], of...), in.SPI)
		pages[overlay.KeyPageOf(name)] = append(pages[overlay.KeyPageOf(name)], entry...)
	}
	for page, entries := range pages {
		value, err := json.Marshal(said{Cluster: k.Cluster, Node: k.Node, Receiver: k.Receiver, Inbound: entries})
		if err != nil {
			return Values{}, err
		}
		pages[page] = value
	}
	value, err := json.Marshal(said{Cluster: k.Cluster, Node: k.Node, Sender: k.Sender})
	return Values{value, pages}, err
}

// inbound returns what a page has for a sender.
func (s said) inbound(sender string) (Inbound, bool) {
	const length = 2*idLen + 4
	hash := sha256.Sum256([]byte(sender))
	for entry := range slices.Chunk(s.Inbound, length) {
		if len(entry) == length && string(entry[:idLen]) == string(hash[:idLen]) {
			return Inbound{hex.EncodeToString(entry[idLen : 2*idLen]), binary.BigEndian.Uint32(entry[2*idLen:])}, true
		}
	}
	return Inbound{}, false
}

// signed is a value of the store.
type signed struct {
	Certificate []byte `json:"certificate,omitempty"` // DER
	Keys        []byte `json:"keys"`                  // a said as JSON: these bytes are signed
	Signature   []byte `json:"signature,omitempty"`   // ECDSA with SHA-256, ASN.1
}

// signedAs keeps a signature from meaning anything else.
const signedAs = "dcni key record 2\x00"

// Sign makes what the store is to have of one of [Values]. The certificate is the node's,
// DER, and the signer has its key; without both nothing is signed.
func Sign(value, certificate []byte, signer crypto.Signer, random io.Reader) (_ []byte, err error) {
	s := signed{Keys: value}
	if signer != nil {
		digest := sha256.Sum256(append([]byte(signedAs), value...))
		s.Certificate = certificate
		if s.Signature, err = signer.Sign(random, digest[:], crypto.SHA256); err != nil {
			return nil, fmt.Errorf("sign the key record: %w", err)
		}
	}
	return json.Marshal(s)
}

// A Verifier knows whose records count.
type Verifier struct {
	Cluster string
	CA      *x509.Certificate // nil: the store's access rights are the cluster's trust, and records are not signed
}

// Record reads the value of key/NAME, at a time in seconds since 1970, and returns the
// sender's key. Its error says why the record is refused.
func (v Verifier) Record(name string, value []byte, now int64) (sender []byte, err error) {
	s, err := v.open(name, value, now)
	if err == nil {
		err = checkPublic(name, s.Sender)
	}
	if err != nil {
		return nil, err
	}
	return s.Sender, nil
}

// Page reads the value of keypage/PAGE/NAME for a sender: it returns the receiver's key,
// and which state there is for the sender, none or one, by its name.
func (v Verifier) Page(name, sender string, value []byte, now int64) (receiver []byte, inbound map[string]Inbound, err error) {
	s, err := v.open(name, value, now)
	if err == nil {
		err = checkPublic(name, s.Receiver)
	}
	if err != nil {
		return nil, nil, err
	}
	inbound = map[string]Inbound{}
	if in, ok := s.inbound(sender); ok {
		inbound[sender] = in
	}
	return s.Receiver, inbound, nil
}

func checkPublic(name string, public []byte) error {
	if _, err := ecdh.X25519().NewPublicKey(public); err != nil {
		return fmt.Errorf("key record of node %s is refused: a public key: %w", name, err)
	}
	return nil
}

// open reads what a node has signed.
func (v Verifier) open(name string, value []byte, now int64) (said, error) {
	var r signed
	var s said
	if err := json.Unmarshal(value, &r); err != nil {
		return s, fmt.Errorf("key record of node %s: %w", name, err)
	}
	if err := v.verify(name, r, now); err != nil {
		return s, fmt.Errorf("key record of node %s is refused: %w", name, err)
	}
	if err := json.Unmarshal(r.Keys, &s); err != nil {
		return said{}, fmt.Errorf("key record of node %s: %w", name, err)
	}
	switch {
	case s.Node != name:
		return said{}, fmt.Errorf("key record of node %s is refused: it is node %q's", name, s.Node)
	case s.Cluster != v.Cluster:
		return said{}, fmt.Errorf("key record of node %s is refused: it is of cluster %q, not of %q", name, s.Cluster, v.Cluster)
	}
	return s, nil
}

// verify checks that the node signed the record, and that the CA says who the node is.
func (v Verifier) verify(name string, r signed, now int64) error {
	if v.CA == nil {
		return nil
	}
	if len(r.Certificate) == 0 || len(r.Signature) == 0 {
		return errors.New("it is not signed")
	}
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return fmt.Errorf("its certificate: %w", err)
	}
	if err := cert.CheckSignatureFrom(v.CA); err != nil {
		return fmt.Errorf("its certificate is not of the cluster's CA: %w", err)
	}
	switch {
	case cert.IsCA || cert.Subject.CommonName != name:
		return fmt.Errorf("its certificate is for %q", cert.Subject.CommonName)
	case now < cert.NotBefore.Unix() || now > cert.NotAfter.Unix():
		return fmt.Errorf("its certificate holds from %s to %s", cert.NotBefore.Format(day), cert.NotAfter.Format(day))
	}
	if err := cert.CheckSignature(x509.ECDSAWithSHA256, append([]byte(signedAs), r.Keys...), r.Signature); err != nil {
		return fmt.Errorf("its signature is not by the key of its certificate: %w", err)
	}
	return nil
}

const day = "2006-01-02"
