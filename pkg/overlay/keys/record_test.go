package keys

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"dcni/pkg/overlay"
	"dcni/pkg/wire"
)

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func certificate(t *testing.T, template *x509.Certificate, by *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore = big.NewInt(1), time.Unix(1000, 0)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func newCA(t *testing.T) *authority {
	return certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Unix(9000, 0),
	}, nil)
}

func newNode(t *testing.T, name string, ca *authority) *authority {
	return certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, NotAfter: time.Unix(5000, 0),
	}, ca)
}

func someKeys(t *testing.T, node string) Keys {
	t.Helper()
	k := Keys{Cluster: "c1", Node: node, Inbound: map[string]Inbound{"n1": {"0011223344556677", 4711}}}
	for _, public := range []*[]byte{&k.Sender, &k.Receiver} {
		key, err := newKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		*public = key.PublicKey().Bytes()
	}
	return k
}

// record and page return what the store is to have of a node's keys, page that for n1.
func record(t *testing.T, k Keys) []byte {
	t.Helper()
	v, err := k.Values()
	if err != nil {
		t.Fatal(err)
	}
	return v.Record
}

func page(t *testing.T, k Keys) []byte {
	t.Helper()
	v, err := k.Values()
	if err != nil {
		t.Fatal(err)
	}
	return v.Pages[overlay.KeyPageOf("n1")]
}

// A record or a page counts if its node signed it, and the CA says who the node is. What
// someone who can write to the store makes otherwise is refused, and the error says why.
func TestRecords(t *testing.T) {
	for name, kind := range map[string]struct {
		value func(*testing.T, Keys) []byte
		open  func(Verifier, []byte, int64) (Keys, error)
		weak  func(*Keys)
	}{
		"record": {record, func(v Verifier, value []byte, now int64) (Keys, error) {
			sender, err := v.Record("n2", value, now)
			return Keys{Sender: sender}, err
		}, func(k *Keys) { k.Sender = []byte{1, 2, 3} }},
		"page": {page, func(v Verifier, value []byte, now int64) (Keys, error) {
			receiver, inbound, err := v.Page("n2", "n1", value, now)
			return Keys{Receiver: receiver, Inbound: inbound}, err
		}, func(k *Keys) { k.Receiver = nil }},
	} {
		t.Run(name, func(t *testing.T) { testRecords(t, kind.value, kind.open, kind.weak) })
	}
}

func testRecords(t *testing.T, valueOf func(*testing.T, Keys) []byte, open func(Verifier, []byte, int64) (Keys, error), weaken func(*Keys)) {
	ca, other := newCA(t), newCA(t)
	n2, n3 := newNode(t, "n2", ca), newNode(t, "n3", ca)
	k := someKeys(t, "n2")
	seal := func(k Keys, by *authority) []byte {
		value, err := Sign(valueOf(t, k), by.cert.Raw, by.key, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	good := seal(k, n2)
	forge := func(change func(r *signed)) []byte {
		var r signed
		if err := json.Unmarshal(good, &r); err != nil {
			t.Fatal(err)
		}
		change(&r)
		b, _ := json.Marshal(r)
		return b
	}
	weak, elsewhere := k, k
	weaken(&weak)
	elsewhere.Cluster = "c2"
	unsigned, err := Sign(valueOf(t, k), nil, nil, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v := Verifier{"c1", ca.cert}
	for _, c := range []struct {
		what  string
		value []byte
		now   int64
		want  string // ""; it counts
	}{
		{"good", good, 2000, ""},
		{"no JSON", []byte("{"), 2000, "key record of node n2: "},
		{"not signed", unsigned, 2000, "it is not signed"},
		{"other keys under the signature", forge(func(r *signed) { r.Keys = valueOf(t, someKeys(t, "n2")) }), 2000, "its signature is not by the key of its certificate"},
		{"a signature of another node", forge(func(r *signed) { r.Certificate = n3.cert.Raw }), 2000, `its certificate is for "n3"`},
		{"another node's signature and keys", seal(k, n3), 2000, `its certificate is for "n3"`},
		{"a certificate of another CA", seal(k, newNode(t, "n2", other)), 2000, "not of the cluster's CA"},
		{"a certificate by a node", seal(k, newNode(t, "n2", n3)), 2000, "not of the cluster's CA"},
		{"the CA's certificate", seal(k, ca), 2000, `its certificate is for "ca"`},
		{"expired", good, 5001, "its certificate holds from 1970-01-01 to 1970-01-01"},
		{"of tomorrow", good, 999, "its certificate holds from"},
		{"of another node under the name", seal(someKeys(t, "n3"), n2), 2000, `it is node "n3"'s`},
		{"of another cluster", seal(elsewhere, n2), 2000, `it is of cluster "c2", not of "c1"`},
		{"no key", seal(weak, n2), 2000, "a public key"},
		{"no certificate", forge(func(r *signed) { r.Certificate = []byte{1} }), 2000, "its certificate: "},
	} {
		got, err := open(v, c.value, c.now)
		switch {
		case c.want == "" && (err != nil || !counts(got, k)):
			t.Errorf("%s: %+v, %v", c.what, got, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "node n2") || got.Sender != nil || got.Receiver != nil):
			t.Errorf("%s: %+v, error %v; want %q", c.what, got, err, c.want)
		}
	}
	if got, err := open(Verifier{Cluster: "c1"}, unsigned, 2000); err != nil || !counts(got, k) {
		t.Errorf("without a CA: %+v, %v", got, err)
	}
}

// counts reports whether what was read is what was said: of a record, or of the page for n1.
func counts(got, said Keys) bool {
	return slices.Equal(got.Sender, said.Sender) ||
		slices.Equal(got.Receiver, said.Receiver) && maps.Equal(got.Inbound, map[string]Inbound{"n1": said.Inbound["n1"]})
}

// A record is no page, and a page no record: each says less than the other has to.
func TestKinds(t *testing.T) {
	k := someKeys(t, "n2")
	v := Verifier{Cluster: "c1"}
	for name, read := range map[string]func() error{
		"a page as a record": func() error {
			value, _ := Sign(page(t, k), nil, nil, nil)
			_, err := v.Record("n2", value, 1)
			return err
		},
		"a record as a page": func() error {
			value, _ := Sign(record(t, k), nil, nil, nil)
			_, _, err := v.Page("n2", "n1", value, 1)
			return err
		},
	} {
		if err := read(); err == nil || !strings.Contains(err.Error(), "a public key") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Of 1,000 nodes each finds its own state in its page of another, no value is long, and
// one that comes changes one page.
func TestThousand(t *testing.T) {
	n2 := newNode(t, "n2", newCA(t))
	k := someKeys(t, "n2")
	for i := range 1000 {
		k.Inbound[fmt.Sprintf("node-%d.example.org", i)] = Inbound{fmt.Sprintf("%016x", i), uint32(1000 + i)}
	}
	values, err := k.Values()
	if err != nil {
		t.Fatal(err)
	}
	longest := 0
	for number, value := range values.Pages {
		if values.Pages[number], err = Sign(value, n2.cert.Raw, n2.key, rand.Reader); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, len(values.Pages[number]))
	}
	t.Logf("%d pages, the longest has %d bytes", len(values.Pages), longest)
	if longest > 2000 {
		t.Errorf("a page has %d bytes", longest)
	}
	for name, want := range k.Inbound {
		_, got, err := Verifier{Cluster: "c1"}.Page("n2", name, values.Pages[overlay.KeyPageOf(name)], 2000)
		if err != nil || got[name] != want {
			t.Fatalf("%s: %v, %v; want %v", name, got, err, want)
		}
	}
	_, got, err := Verifier{Cluster: "c1"}.Page("n2", "absent", values.Pages[overlay.KeyPageOf("absent")], 2000)
	if err != nil || len(got) != 0 {
		t.Errorf("a node that it has no state for: %v, %v", got, err)
	}
	before, err := k.Values()
	if err != nil {
		t.Fatal(err)
	}
	k.Inbound["newcomer"] = Inbound{"0011223344556677", 4712}
	after, err := k.Values()
	if err != nil {
		t.Fatal(err)
	}
	for number := range overlay.KeyPages {
		if changed := string(before.Pages[number]) != string(after.Pages[number]); changed != (number == overlay.KeyPageOf("newcomer")) {
			t.Errorf("page %d: changed %t", number, changed)
		}
	}
	if string(before.Record) != string(after.Record) {
		t.Error("the record changed")
	}
}

// Both ends derive the same key, and every part of what it is made for changes it.
func TestDerive(t *testing.T) {
	sender, err := newKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := newKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	base := direction{"c1", "n1", "n2", sender.PublicKey().Bytes(), receiver.PublicKey().Bytes(), 0x1234}
	key := func(d direction, own *ecdh.PrivateKey, other []byte) wire.Secret {
		t.Helper()
		s, err := d.derive(own, other)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	at := key(base, sender, base.receiverKey)
	if key(base, receiver, base.senderKey) != at || at == (wire.Secret{}) {
		t.Error("the two ends have different keys")
	}
	back, other, index, cluster := base, base, base, base
	back.sender, back.receiver = "n2", "n1"
	other.receiver, index.spi, cluster.cluster = "n3", 0x1235, "c2"
	for _, d := range []direction{back, other, index, cluster} {
		if key(d, sender, base.receiverKey) == at {
			t.Errorf("%+v has the same key", d)
		}
	}
	if _, err := base.derive(sender, make([]byte, 32)); err == nil {
		t.Error("a public key of low order is taken")
	}
}

// The derivation stays as it is: a new version of a node has to talk to an old one.
func TestDeriveVector(t *testing.T) {
	sender, err := ecdh.X25519().NewPrivateKey(slices.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := ecdh.X25519().NewPrivateKey(slices.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	d := direction{"c1", "n1", "n2", sender.PublicKey().Bytes(), receiver.PublicKey().Bytes(), 0x1234}
	got, err := d.derive(sender, d.receiverKey)
	if err != nil {
		t.Fatal(err)
	}
	// By an implementation of RFC 7748 and RFC 5869 in Python.
	want := wire.Secret{0x84, 0x84, 0x04, 0xf4, 0x28, 0xe1, 0xa4, 0x8a, 0x0e, 0x73, 0x09, 0xf5, 0x36, 0xdd, 0xec, 0x9e, 0xa3, 0x52, 0x36, 0x3c}
	if got != want {
		t.Errorf("%x", [20]byte(got))
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"keys":"e30="}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		v := Verifier{Cluster: "c1"}
		if sender, err := v.Record("n2", value, 1); err == nil && len(sender) != 32 {
			t.Errorf("%x", sender)
		}
		if receiver, inbound, err := v.Page("n2", "n1", value, 1); err == nil && (len(receiver) != 32 || len(inbound) > 1) {
			t.Errorf("%x, %v", receiver, inbound)
		}
	})
}
