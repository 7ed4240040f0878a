package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var day0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newCA(t *testing.T) *CA { return must[*CA](t)(NewCA("c0ffee", day0)) }

// newNode makes a node's identity as joining does.
func newNode(t *testing.T, ca *CA, name string, now time.Time) Identity {
	key := must[*ecdsa.PrivateKey](t)(NewKey())
	csr := must[[]byte](t)(NewRequest(name, key))
	public := must[*ecdsa.PublicKey](t)(ParseRequest(csr, name))
	cert := must[*x509.Certificate](t)(ca.Sign(public, name, []netip.Addr{netip.MustParseAddr("192.0.2.7")}, now))
	return Identity{CA: ca.Cert, Cert: cert, Key: key}
}

func TestToken(t *testing.T) {
	token := NewToken(newCA(t).Cert)
	text := token.String()
	if got, err := ParseToken(" " + text + "\n"); err != nil || got != token {
		t.Errorf("%s is read as %+v, %v", text, got, err)
	}
	if other := NewToken(newCA(t).Cert); other.ID == token.ID || other.Secret == token.Secret || other.CA == token.CA {
		t.Errorf("two tokens are %v and %v", token, other)
	}
	parts := strings.Split(text, ".")
	for bad, want := range map[string]string{
		"":                                 "must be what",
		"dcni1":                            "must be what",
		text + ".x":                        "must be what",
		strings.Replace(text, "1", "2", 1): "must be what",
		text[:len(text)-1]:                 "part 4 must be 32",
		"dcni1." + parts[1][1:] + "." + parts[2] + "." + parts[3]:  "part 2 must be 64",
		"dcni1." + parts[1] + ".G" + parts[2][1:] + "." + parts[3]: "part 3 must be 12",
	} {
		if _, err := ParseToken(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", bad, err, want)
		}
		if _, err := ParseToken(bad); err != nil && len(bad) > 40 && strings.Contains(err.Error(), parts[3]) {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}

func TestGrant(t *testing.T) {
	token := NewToken(newCA(t).Cert)
	g := token.Grant(Member, day0.Add(time.Hour))
	if strings.Contains(g.Hash, token.Secret) || g.Kind != Member {
		t.Errorf("the grant is %+v", g)
	}
	for _, c := range []struct {
		secret string
		now    time.Time
		want   string
	}{
		{token.Secret, day0, ""},
		{token.Secret, day0.Add(2 * time.Hour), "has expired on 2026-01-02T04:04:05Z"},
		{NewToken(newCA(t).Cert).Secret, day0, ErrTokenUnknown.Error()},
		{"", day0, ErrTokenUnknown.Error()},
	} {
		err := g.Check(c.secret, c.now)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// TestRequest refuses requests that are none, or another's.
func TestRequest(t *testing.T) {
	key := must[*ecdsa.PrivateKey](t)(NewKey())
	good := must[[]byte](t)(NewRequest("n1", key))
	request := func(key any) []byte {
		der := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "n1"}}, key))
		return pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der})
	}
	forged := func() []byte {
		block, _ := pem.Decode(good)
		block.Bytes[len(block.Bytes)-1] ^= 1
		return pem.EncodeToMemory(block)
	}
	for name, c := range map[string]struct {
		data []byte
		node string
		want string
	}{
		"good":           {good, "n1", ""},
		"another's name": {good, "n2", `it is for "n1": must be for node "n2"`},
		"no PEM":         {[]byte("x"), "n1", "must be PEM of type CERTIFICATE REQUEST"},
		"a certificate":  {EncodeCert(newCA(t).Cert), "n1", "must be PEM of type CERTIFICATE REQUEST"},
		"forged":         {forged(), "n1", "certificate request: "},
		"RSA":            {request(must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))), "n1", "its key is RSA: must be ECDSA on P-256"},
		"P-384":          {request(must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))), "n1", "must be ECDSA on P-256"},
	} {
		_, err := ParseRequest(c.data, c.node)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestCertificates looks at what a certificate says, and at its days.
func TestCertificates(t *testing.T) {
	ca := newCA(t)
	n := newNode(t, ca, "n1", day0)
	for _, host := range []string{"192.0.2.7", "127.0.0.1", "::1", "localhost"} {
		if err := n.Cert.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if n.Cert.VerifyHostname("192.0.2.8") == nil || n.Cert.IsCA {
		t.Error("the certificate is for more than its node")
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := n.Cert.Verify(x509.VerifyOptions{Roots: n.Pool(), CurrentTime: day0, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Error(err)
		}
	}
	if got := RenewAt(n.Cert).Sub(day0).Round(time.Hour); got != NodeLife*2/3+(-skew*1/3).Round(time.Hour) {
		t.Errorf("renewed after %v", got)
	}
	for now, want := range map[time.Time]string{
		day0:                      "",
		day0.Add(2 * NodeLife):    "certificate /x/node.crt: has expired on 2027-01-02",
		day0.Add(-48 * time.Hour): "certificate /x/node.crt: holds from 2026-01-02T02:04:05Z on, and this host's clock says 2025-12-31T03:04:05Z: it is wrong, or that of the host which signed was",
		day0.Add(-time.Hour):      "", // of clocks that are an hour apart
	} {
		if err := CheckDates("/x/node.crt", n.Cert, now); want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	late := newNode(t, ca, "n1", day0.Add(CALife-time.Hour))
	if late.Cert.NotAfter.After(ca.Cert.NotAfter) {
		t.Error("a certificate outlives its CA")
	}
}

func TestPEM(t *testing.T) {
	ca := newCA(t)
	key := must[[]byte](t)(EncodeKey(ca.Key))
	if got := must[*ecdsa.PrivateKey](t)(ParseKey("k", key)); !got.Equal(ca.Key) {
		t.Error("the key is another")
	}
	if got := must[*x509.Certificate](t)(ParseCert("c", EncodeCert(ca.Cert))); !got.Equal(ca.Cert) {
		t.Error("the certificate is another")
	}
	if _, err := ParseCert("/x/ca.crt", key); err == nil || !strings.HasPrefix(err.Error(), "/x/ca.crt: ") {
		t.Error(err)
	}
	if _, err := ParseKey("/x/ca.key", []byte("nonsense")); err == nil || !strings.HasPrefix(err.Error(), "/x/ca.key: ") {
		t.Error(err)
	}
}

// TestPinned connects to nodes of the token's cluster, and to others, which get nothing.
func TestPinned(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	mixed := newNode(t, other, "n1", day0) // shows the right CA with a certificate of another
	mixed.CA = ca.Cert
	selfish := Identity{CA: ca.Cert, Cert: ca.Cert, Key: newNode(t, ca, "x", day0).Key}
	for name, c := range map[string]struct {
		server Identity
		now    time.Time
		want   string
	}{
		"the cluster":     {newNode(t, ca, "n1", day0), day0, ""},
		"another cluster": {newNode(t, other, "n1", day0), day0, ErrOtherCA.Error()},
		"in between":      {mixed, day0, "unknown authority"},
		"the CA alone":    {selfish, day0, ""},
		"expired":         {newNode(t, ca, "n1", day0), day0.Add(2 * NodeLife), `node "n1", which holds until 2027-01-02`},
	} {
		client, server := net.Pipe()
		got := make(chan []byte, 1)
		go func() {
			tlsServer := tls.Server(server, Server(func() Identity { return c.server }))
			buf := make([]byte, 16)
			n, _ := tlsServer.Read(buf)
			got <- buf[:n]
			server.Close()
		}()
		var found *x509.Certificate
		conn := tls.Client(client, Pinned(Fingerprint(ca.Cert), func() time.Time { return c.now }, func(ca *x509.Certificate) { found = ca }))
		_, err := conn.Write([]byte("secret"))
		client.Close()
		sent := string(<-got)
		if name == "the CA alone" { // its key is not the server's
			if err == nil || sent != "" || found != nil {
				t.Errorf("%s: %v, the server got %q", name, err, sent)
			}
			continue
		}
		if c.want == "" && (err != nil || sent != "secret" || !found.Equal(ca.Cert)) {
			t.Errorf("%s: %v, the server got %q", name, err, sent)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || sent != "" || found != nil) {
			t.Errorf("%s: %v, want %q; the server got %q", name, err, c.want, sent)
		}
		if name == "another cluster" && !errors.Is(err, ErrOtherCA) {
			t.Errorf("%T", err)
		}
	}
}
