package trust

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// An Identity is what a node proves with who it is.
type Identity struct {
	CA   *x509.Certificate
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// TLS is the identity as crypto/tls has it. The CA's certificate goes with the node's, so
// that a host that is about to join can compare it with its token.
func (i Identity) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{i.Cert.Raw, i.CA.Raw}, PrivateKey: i.Key, Leaf: i.Cert}
}

// Pool has the CA alone.
func (i Identity) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.CA)
	return pool
}

// ErrOtherCA says that another cluster answered.
var ErrOtherCA = errors.New("its CA is not the one of the token: this is another cluster, or a machine in between answers")

// Pinned is the client's side of a connection to a node whose address alone is known: the
// CA that the node shows must have the fingerprint, and must have signed the node's
// certificate. Both are compared before a byte is sent. found is given the CA.
func Pinned(fingerprint string, now func() time.Time, found func(*x509.Certificate)) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(c tls.ConnectionState) error {
			i := slices.IndexFunc(c.PeerCertificates, func(cert *x509.Certificate) bool { return Fingerprint(cert) == fingerprint })
			if i < 0 {
				return ErrOtherCA
			}
			leaf, ca := c.PeerCertificates[0], c.PeerCertificates[i]
			pool := x509.NewCertPool()
			pool.AddCert(ca)
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
				return fmt.Errorf("the certificate of node %q, which holds until %s: %w", leaf.Subject.CommonName, day(leaf.NotAfter), err)
			}
			if !ca.IsCA || i == 0 {
				return ErrOtherCA
			}
			found(ca)
			return nil
		},
	}
}

// Server is the server's side of the join door: a client may show a node's certificate.
// current returns the identity, which is renewed while the server runs.
func Server(current func() Identity) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs:  current().Pool(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert := current().TLS()
			return &cert, nil
		},
	}
}
