// Package trust says which hosts are nodes of a cluster: the certificate authority that a
// cluster makes for itself, the certificates of its nodes, and the tokens by which a host
// becomes one. It decides from values; the time is an argument. Files are
// records.Cluster's, connections package join's.
//
// Keys are ECDSA on P-256. A node's certificate names the node (CN) and its addresses,
// and serves both ends of a connection: as client and as server. Nodes trust one another:
// a holder of a certificate of the CA may do all that a node may.
package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"time"
)

// How long certificates hold. A node's is renewed after two thirds of its time.
const (
	CALife   = 10 * 365 * 24 * time.Hour
	NodeLife = 365 * 24 * time.Hour
	skew     = time.Hour // what the clocks of two hosts may differ
)

// ErrTokenUnknown says that there is no such token, or no more.
var ErrTokenUnknown = errors.New("the token is unknown, or a node has joined with it: each is for one node, and `dnet cluster token` makes another")

// A CA is a cluster's certificate authority.
type CA struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// NewCA makes one for a cluster with an ID.
func NewCA(cluster string, now time.Time) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "dcni cluster " + cluster},
		NotBefore: now.Add(-skew), NotAfter: now.Add(CALife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	cert, err := sign(template, template, &key.PublicKey, key)
	return &CA{Cert: cert, Key: key}, err
}

// NewKey draws a key.
func NewKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// serial draws a serial number (RFC 5280: positive, at most 20 bytes).
func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}

func sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// NewRequest returns a request for a node's certificate, as PEM.
func NewRequest(node string, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: node}}, key)
	return pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der}), err
}

// ParseRequest reads a request for the certificate of a node, and checks that the sender
// has the key, that it is of the right kind, and that no other node is named.
func ParseRequest(data []byte, node string) (*ecdsa.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemRequest {
		return nil, errors.New("certificate request: must be PEM of type " + pemRequest)
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || key.Curve != elliptic.P256():
		return nil, fmt.Errorf("certificate request: its key is %v: must be ECDSA on P-256", r.PublicKeyAlgorithm)
	case r.Subject.CommonName != node:
		return nil, fmt.Errorf("certificate request: it is for %q: must be for node %q", r.Subject.CommonName, node)
	}
	return key, nil
}

// Sign makes the certificate of a node: for its name, its addresses, and the host's own.
func (ca *CA) Sign(public *ecdsa.PublicKey, node string, addresses []netip.Addr, now time.Time) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: node},
		NotBefore: now.Add(-skew), NotAfter: earlier(now.Add(NodeLife), ca.Cert.NotAfter),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{"localhost"},
	}
	for _, a := range append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, addresses...) {
		template.IPAddresses = append(template.IPAddresses, net.IP(a.Unmap().AsSlice()))
	}
	return sign(template, ca.Cert, public, ca.Key)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// RenewAt is when a certificate is to be renewed: after two thirds of its time.
func RenewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) * 2 / 3)
}

// CheckDates returns an error that names the file and the day if a certificate does not
// hold now.
func CheckDates(path string, cert *x509.Certificate, now time.Time) error {
	switch {
	case now.After(cert.NotAfter):
		return fmt.Errorf("certificate %s: has expired on %s", path, day(cert.NotAfter))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("certificate %s: holds from %s on, and this host's clock says %s: it is wrong, or that of the host which signed was",
			path, cert.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
