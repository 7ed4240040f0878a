package trust

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// A Token is what an administrator carries from a node of the cluster to a host that is
// to become one. Its text is
//
//	dcni1.<sha256 of the CA's certificate, 64 hex digits>.<ID, 12>.<secret, 32>
//
// The hash tells the cluster from others before the secret is sent to it.
type Token struct {
	CA     string // sha256 of the CA's certificate (DER), in hexadecimal
	ID     string // which [Grant] it is for
	Secret string
}

// Digits of the parts of a token, in hexadecimal.
const (
	digitsID     = 12
	digitsSecret = 32
)

// tokenVersion is what a token begins with.
const tokenVersion = "dcni1"

// NewToken draws a token for the cluster of a CA.
func NewToken(ca *x509.Certificate) Token {
	return Token{CA: Fingerprint(ca), ID: randomHex(digitsID), Secret: randomHex(digitsSecret)}
}

// String is the token as it is typed.
func (t Token) String() string {
	return strings.Join([]string{tokenVersion, t.CA, t.ID, t.Secret}, ".")
}

// ParseToken reads a token.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || parts[0] != tokenVersion {
		return Token{}, fmt.Errorf("token: must be what `dnet cluster token` prints, %s.CA.ID.SECRET", tokenVersion)
	}
	for i, digits := range []int{0, 2 * sha256.Size, digitsID, digitsSecret} {
		if i > 0 && (len(parts[i]) != digits || !regexp.MustCompile(`^[0-9a-f]+$`).MatchString(parts[i])) {
			return Token{}, fmt.Errorf("token: its part %d must be %d hexadecimal digits: it was not copied whole", i+1, digits)
		}
	}
	return Token{CA: parts[1], ID: parts[2], Secret: parts[3]}, nil
}

// Fingerprint is the sha256 of a certificate, in hexadecimal.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// randomHex draws digits. crypto/rand never fails on Linux.
func randomHex(digits int) string {
	b := make([]byte, digits/2)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// NewID draws the ID of a node or of a cluster.
func NewID() string { return randomHex(digitsSecret) }

// A Kind is what a node may be.
type Kind string

// The kinds. A member's host is given the CA's key when it joins, a client's when it gets a
// member of the store: which nodes those are does not depend on the kind.
const (
	Client Kind = "client"
	Member Kind = "member"
)

// A Grant is the store's side of a token: the value of overlay.Keys.Token(ID), as JSON. It
// does not have the secret.
type Grant struct {
	Hash    string `json:"hash"` // sha256 of the secret's text, in hexadecimal
	Kind    Kind   `json:"kind"`
	Expires int64  `json:"expires"` // seconds since 1970
}

// GrantKept is how long the store keeps a grant that has expired, in seconds: a node that
// comes with it is told so, and not that it is unknown.
const GrantKept = 24 * 3600

// Grant returns the store's side of a token.
func (t Token) Grant(kind Kind, expires time.Time) Grant {
	return Grant{Hash: hashSecret(t.Secret), Kind: kind, Expires: expires.Unix()}
}

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Check returns why a secret does not admit its bearer. A wrong secret is an unknown token.
func (g Grant) Check(secret string, now time.Time) error {
	expires := time.Unix(g.Expires, 0)
	switch {
	case subtle.ConstantTimeCompare([]byte(g.Hash), []byte(hashSecret(secret))) != 1:
		return ErrTokenUnknown
	case now.After(expires):
		return fmt.Errorf("the token has expired on %s: `dnet cluster token` makes another", expires.UTC().Format(time.RFC3339))
	}
	return nil
}
