package join

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/memory"
	"dcni/pkg/trust"
)

var keys = overlay.Keys{Prefix: "/dcni/1/test/"}

var here = netip.MustParseAddr("127.0.0.1")

// A fixture is a cluster with a door, and no node.
type fixture struct {
	t       *testing.T
	store   overlay.Store
	door    Door
	address string
	now     time.Time
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, store: memory.New(), now: time.Now()}
	ca, err := trust.NewCA("c0ffee", f.now)
	f.must(err)
	clock := func() time.Time { return f.now }
	f.door = Door{Store: f.store, Keys: keys, Cluster: "c0ffee", CA: ca, Now: clock, Endpoints: func() []string { return []string{"https://127.0.0.1:2379"} },
		Members: func(context.Context) ([]string, error) { return []string{"m", "x"}, nil }}
	first := f.identity("first")
	server := httptest.NewUnstartedServer(f.door.Handler())
	l := tls.NewListener(server.Listener, trust.Server(func() trust.Identity { return first }))
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	f.address = l.Addr().String()
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// identity makes that of a node without joining.
func (f *fixture) identity(name string) trust.Identity {
	f.t.Helper()
	key, err := trust.NewKey()
	f.must(err)
	data, err := Certify(f.door.CA, &key.PublicKey, name, here, f.now)
	f.must(err)
	cert, err := trust.ParseCert("", data)
	f.must(err)
	return trust.Identity{CA: f.door.CA.Cert, Cert: cert, Key: key}
}

// put writes a key.
func (f *fixture) put(key string, value any) {
	f.t.Helper()
	data, err := json.Marshal(value)
	f.must(err)
	_, _, err = f.store.Commit(f.t.Context(), overlay.Txn{Then: []overlay.Change{{Key: key, Value: data}}})
	f.must(err)
}

func (f *fixture) has(key string) bool {
	f.t.Helper()
	_, err := f.store.Get(f.t.Context(), key)
	if !errors.Is(err, overlay.ErrNotFound) {
		f.must(err)
	}
	return err == nil
}

// token makes a token of a kind that is good for an hour.
func (f *fixture) token(kind trust.Kind) trust.Token {
	token := trust.NewToken(f.door.CA.Cert)
	f.put(keys.Token(token.ID), token.Grant(kind, f.now.Add(time.Hour)))
	return token
}

// join joins as a node with an ID.
func (f *fixture) join(name, id string, token trust.Token) (Welcome, *ecdsa.PrivateKey, error) {
	key, err := trust.NewKey()
	f.must(err)
	w, ca, err := Join(f.t.Context(), f.address, token, f.door.Now, time.Second, func(local netip.Addr) (Request, error) {
		csr, err := trust.NewRequest(name, key)
		return Request{Name: name, Node: overlay.Node{ID: id, Address: local, MTU: 1500}, Request: csr}, err
	})
	if err == nil && trust.Fingerprint(ca) != token.CA {
		f.t.Error("the CA is another")
	}
	return w, key, err
}

// TestJoin admits a client and a member, and spends their tokens.
func TestJoin(t *testing.T) {
	f := newFixture(t)
	for _, kind := range []trust.Kind{trust.Client, trust.Member} {
		token := f.token(kind)
		w, key, err := f.join("node-"+string(kind), string(kind), token)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := trust.ParseCert("", w.Cert)
		f.must(err)
		if !key.PublicKey.Equal(cert.PublicKey) || cert.Subject.CommonName != "node-"+string(kind) || cert.CheckSignatureFrom(f.door.CA.Cert) != nil {
			t.Errorf("the certificate is %v", cert.Subject)
		}
		if w.Cluster != "c0ffee" || w.Prefix != keys.Prefix || len(w.Endpoints) != 1 || w.Kind != kind || (len(w.CAKey) > 0) != (kind == trust.Member) {
			t.Errorf("welcome is %+v", w)
		}
		if !f.has(keys.Node("node-"+string(kind))) || f.has(keys.Token(token.ID)) {
			t.Error("the node is not there, or the token is")
		}
		if _, _, err := f.join("other", "other", token); err == nil || !strings.HasSuffix(err.Error(), trust.ErrTokenUnknown.Error()) || f.has(keys.Node("other")) {
			t.Errorf("with a spent token: %v", err)
		}
	}
}

// TestJoinOnce has two hosts come with one token at the same time.
func TestJoinOnce(t *testing.T) {
	f := newFixture(t)
	token := f.token(trust.Client)
	results := make(chan error)
	for _, name := range []string{"a", "b", "c", "d"} {
		go func() {
			_, _, err := f.join(name, name, token)
			results <- err
		}()
	}
	admitted := 0
	for range 4 {
		switch err := <-results; {
		case err == nil:
			admitted++
		case !strings.Contains(err.Error(), trust.ErrTokenUnknown.Error()):
			t.Error(err)
		}
	}
	if admitted != 1 {
		t.Errorf("%d nodes joined with one token", admitted)
	}
}

// TestJoinRefuses has one sentence for each reason, and makes no node.
func TestJoinRefuses(t *testing.T) {
	f := newFixture(t)
	f.put(keys.Node("living"), overlay.Node{ID: "1", Address: here})
	f.put(keys.Alive("living"), overlay.Alive{})
	f.put(keys.Node("dead"), overlay.Node{ID: "2", Address: here})
	good := f.token(trust.Client)
	expired := trust.NewToken(f.door.CA.Cert)
	f.put(keys.Token(expired.ID), expired.Grant(trust.Client, f.now.Add(-time.Hour)))
	otherCA, wrong, unknown := good, good, good
	otherCA.CA = strings.Repeat("0", 64)
	wrong.Secret = strings.Repeat("0", 32)
	unknown.ID = "000000000000"
	for name, c := range map[string]struct {
		node, id string
		token    trust.Token
		want     string
	}{
		"another cluster's token": {"n", "9", otherCA, trust.ErrOtherCA.Error()},
		"unknown":                 {"n", "9", unknown, trust.ErrTokenUnknown.Error()},
		"wrong secret":            {"n", "9", wrong, trust.ErrTokenUnknown.Error()},
		"expired":                 {"n", "9", expired, "the token has expired on "},
		"living":                  {"living", "9", good, `node "living" is alive, and another host: choose another name with --node`},
		"clone":                   {"living", "1", good, `this host has the ID of node "living", which is alive: it is a clone of that host`},
		"clone of another name":   {"n", "1", good, `this host has the ID of node "living", which is alive: it is a clone of that host`},
		"renamed":                 {"n", "2", good, `this host is node "dead": join with --node dead`},
		"bad name":                {"a/b", "9", good, `node "a/b": must be letters, digits`},
		"no ID":                   {"n", "", good, `node "n": has no ID`},
	} {
		if _, _, err := f.join(c.node, c.id, c.token); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v is not one sentence", name, err)
		}
		if f.has(keys.Node("n")) || !f.has(keys.Token(good.ID)) {
			t.Fatalf("%s: a node was made, or the token was spent", name)
		}
	}
	if _, _, err := f.join("dead", "2", good); err != nil {
		t.Errorf("a node comes back: %v", err)
	}
	if _, _, err := f.join("dead", "3", f.token(trust.Client)); err != nil {
		t.Errorf("another host in place of a dead node: %v", err)
	}
}

// TestUnreachable names the address and the port.
func TestUnreachable(t *testing.T) {
	f := newFixture(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	f.must(err)
	f.address = l.Addr().String()
	l.Close()
	if _, _, err := f.join("n", "9", f.token(trust.Client)); err == nil || !strings.HasPrefix(err.Error(), f.address+" is not reachable (TCP, port "+portOf(f.address)+" is for joining): ") {
		t.Error(err)
	}
}

// TestRenew renews for the node of the connection, and for no other.
func TestRenew(t *testing.T) {
	f := newFixture(t)
	f.put(keys.Node("n"), overlay.Node{ID: "1", Address: here})
	request := func(id string, identity trust.Identity, name string) (Renewed, error) {
		csr, err := trust.NewRequest(name, identity.Key)
		f.must(err)
		c := Caller{Address: f.address, Timeout: time.Second, TLS: &tls.Config{RootCAs: identity.Pool(), Certificates: []tls.Certificate{identity.TLS()}}}
		return c.Renew(t.Context(), RenewRequest{Node: overlay.Node{ID: id, Address: here}, Request: csr})
	}
	got, err := request("1", f.identity("n"), "n")
	f.must(err)
	if cert, err := trust.ParseCert("", got.Cert); err != nil || cert.Subject.CommonName != "n" {
		t.Errorf("%v, %v", cert, err)
	}
	for want, c := range map[string]struct {
		id, of, name string
	}{
		`it is for "m": must be for node "n"`:      {"1", "n", "m"},
		`node "n" is another host by now`:          {"2", "n", "n"},
		`node "gone" was removed from the cluster`: {"1", "gone", "gone"},
	} {
		if _, err := request(c.id, f.identity(c.of), c.name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	stranger := f.identity("n")
	c := Caller{Address: f.address, Timeout: time.Second, TLS: &tls.Config{RootCAs: stranger.Pool()}}
	csr, err := trust.NewRequest("n", stranger.Key)
	f.must(err)
	if _, err := c.Renew(t.Context(), RenewRequest{Node: overlay.Node{ID: "1", Address: here}, Request: csr}); err == nil || !strings.Contains(err.Error(), "it showed none") {
		t.Error(err)
	}
}

// TestAuthority gives the CA's key to nodes with a member of the store, and to no other.
func TestAuthority(t *testing.T) {
	f := newFixture(t)
	f.put(keys.Node("m"), overlay.Node{ID: "1", Address: here})
	f.put(keys.Node("n"), overlay.Node{ID: "2", Address: here})
	ask := func(name, id string, shown bool) (Authority, error) {
		identity := f.identity(name)
		config := &tls.Config{RootCAs: identity.Pool()}
		if shown {
			config.Certificates = []tls.Certificate{identity.TLS()}
		}
		return Caller{Address: f.address, Timeout: time.Second, TLS: config}.Authority(t.Context(), AuthorityRequest{ID: id})
	}
	got, err := ask("m", "1", true)
	f.must(err)
	if key, err := trust.ParseKey("", got.CAKey); err != nil || !key.Equal(f.door.CA.Key) {
		t.Errorf("%v", err)
	}
	for _, c := range []struct {
		name, id string
		shown    bool
		want     string
	}{
		{"n", "2", true, `node "n" has no member of the store`},
		{"m", "9", true, `node "m" is another host by now`},
		{"x", "3", true, `node "x" was removed from the cluster`},
		{"m", "1", false, "it showed none"},
	} {
		if got, err := ask(c.name, c.id, c.shown); err == nil || !strings.Contains(err.Error(), c.want) || len(got.CAKey) > 0 {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// TestDoorInput answers what is no request with an error.
func TestDoorInput(t *testing.T) {
	f := newFixture(t)
	for body, want := range map[string]int{
		"":                             http.StatusBadRequest,
		"[]":                           http.StatusBadRequest,
		"{}":                           http.StatusForbidden,
		`{"token":"../x"}`:             http.StatusForbidden,
		strings.Repeat(" ", 2*maxBody): http.StatusBadRequest,
	} {
		w := httptest.NewRecorder()
		f.door.Handler().ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/join", strings.NewReader(body)))
		if w.Code != want || !strings.HasPrefix(w.Body.String(), `{"error":"`) {
			t.Errorf("%.20q: %d %s, want %d", body, w.Code, w.Body, want)
		}
	}
}

func TestAddress(t *testing.T) {
	for word, want := range map[string]string{
		"h": "h:2378", "h:99": "h:99", "10.0.0.1": "10.0.0.1:2378", "fd00::1": "[fd00::1]:2378", "[fd00::1]:99": "[fd00::1]:99",
		"": "", "h:x": "", ":99": "", "h:0": "", "h:70000": "",
	} {
		if got, err := Address(word); got != want || (err != nil) != (want == "") {
			t.Errorf("%q is %q, %v, want %q", word, got, err, want)
		}
	}
}
