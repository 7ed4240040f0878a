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
// The receiver rotates: it makes its inbound states, and only then says in its record,
// key/NAME, which they are. What is said is there, so a sender changes over as soon as it
// sees it, and no packet meets a missing state. The state before stays until it was unused
// for a minute in which its sender was in the cluster: a sender that is cut off from the
// store goes on with it.
//
// A state is never made twice with the same key: its sequence numbers, which are the
// cipher's nonces, would start anew. A node that lost inbound states begins a generation,
// and one that lost outbound states draws a new sender's key.
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
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Keys is what a node says of itself.
type Keys struct {
	Cluster  string             `json:"cluster"`  // the cluster's ID
	Node     string             `json:"node"`     // the node's name
	Sender   []byte             `json:"sender"`   // X25519, 32 bytes
	Receiver []byte             `json:"receiver"` // of the newest generation
	Inbound  map[string]Inbound `json:"inbound"`  // which state it has for each sender, by name
}

// Inbound is a state that a receiver has for a sender, made with its newest key.
type Inbound struct {
	Of  string `json:"of"` // the sender's key, see [ID]
	SPI uint32 `json:"spi"`
}

// ID names a public key: 16 hexadecimal digits.
func ID(public []byte) string {
	const length = 8
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:length])
}

// record is the value of key/NAME.
type record struct {
	Certificate []byte `json:"certificate,omitempty"` // DER
	Keys        []byte `json:"keys"`                  // a [Keys] as JSON: these bytes are signed
	Signature   []byte `json:"signature,omitempty"`   // ECDSA with SHA-256, ASN.1
}

// signedAs keeps a signature from meaning anything else.
const signedAs = "dcni key record 1\x00"

// Seal makes the value of key/NAME. The certificate is the node's, DER, and the signer has
// its key; without both the record is not signed.
func Seal(k Keys, certificate []byte, signer crypto.Signer, random io.Reader) ([]byte, error) {
	body, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	r := record{Keys: body}
	if signer != nil {
		digest := sha256.Sum256(append([]byte(signedAs), body...))
		r.Certificate = certificate
		if r.Signature, err = signer.Sign(random, digest[:], crypto.SHA256); err != nil {
			return nil, fmt.Errorf("sign the key record: %w", err)
		}
	}
	return json.Marshal(r)
}

// A Verifier knows whose records count.
type Verifier struct {
	Cluster string
	CA      *x509.Certificate // nil: the store's access rights are the cluster's trust, and records are not signed
}

// Open reads the value of key/NAME, at a time in seconds since 1970. Its error says why
// the record is refused.
func (v Verifier) Open(name string, value []byte, now int64) (Keys, error) {
	var r record
	var k Keys
	if err := json.Unmarshal(value, &r); err != nil {
		return k, fmt.Errorf("key record of node %s: %w", name, err)
	}
	if err := v.verify(name, r, now); err != nil {
		return k, fmt.Errorf("key record of node %s is refused: %w", name, err)
	}
	if err := json.Unmarshal(r.Keys, &k); err != nil {
		return k, fmt.Errorf("key record of node %s: %w", name, err)
	}
	switch {
	case k.Node != name:
		return Keys{}, fmt.Errorf("key record of node %s is refused: it is node %q's", name, k.Node)
	case k.Cluster != v.Cluster:
		return Keys{}, fmt.Errorf("key record of node %s is refused: it is of cluster %q, not of %q", name, k.Cluster, v.Cluster)
	}
	for _, public := range [][]byte{k.Sender, k.Receiver} {
		if _, err := ecdh.X25519().NewPublicKey(public); err != nil {
			return Keys{}, fmt.Errorf("key record of node %s is refused: a public key: %w", name, err)
		}
	}
	return k, nil
}

// verify checks that the node signed the record, and that the CA says who the node is.
func (v Verifier) verify(name string, r record, now int64) error {
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
