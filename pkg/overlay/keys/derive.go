package keys

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"dcni/pkg/wire"
)

// A direction is what a state's key is made for.
type direction struct {
	cluster, sender, receiver string // names
	senderKey, receiverKey    []byte // public
	spi                       uint32
}

// info ties a key to all of it. No name contains the byte that joins them.
func (d direction) info() string {
	return strings.Join([]string{
		"dcni esp 1", d.cluster, d.sender, d.receiver, string(d.senderKey), string(d.receiverKey), fmt.Sprintf("%08x", d.spi),
	}, "\x00")
}

// derive returns what a state encrypts with, from one's own private key and the other's
// public one.
func (d direction) derive(own *ecdh.PrivateKey, other []byte) (secret wire.Secret, err error) {
	public, err := ecdh.X25519().NewPublicKey(other)
	if err != nil {
		return secret, err
	}
	shared, err := own.ECDH(public)
	if err != nil {
		return secret, err // of a public key of low order, which makes the same secret with all keys
	}
	key, err := hkdf.Key(sha256.New, shared, nil, d.info(), len(secret))
	copy(secret[:], key)
	return secret, err
}

// newKey draws a private key.
func newKey(random io.Reader) (*ecdh.PrivateKey, error) {
	b := make([]byte, 32)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("draw a key: %w", err)
	}
	return ecdh.X25519().NewPrivateKey(b)
}
