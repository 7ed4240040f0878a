package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"dcni/pkg/overlay"
	esp "dcni/pkg/overlay/keys"
	"dcni/pkg/trust"
)

// said is what the keys of encrypted networks were measured to need.
type said struct {
	written, read time.Duration // all nodes, some at a time
	stored        float64       // bytes, of records and pages

	// When one more node comes.
	pages, heard float64       // bytes, that all others write, and that they read
	one          time.Duration // until all have
}

// A signer signs for all nodes: what it costs does not depend on whose key it is.
type signer struct {
	certificate []byte
	key         *ecdsa.PrivateKey
}

func newSigner() (*signer, error) {
	ca, err := trust.NewCA("scale", time.Now())
	if err != nil {
		return nil, err
	}
	key, err := trust.NewKey()
	if err != nil {
		return nil, err
	}
	cert, err := ca.Sign(&key.PublicKey, "node1", nil, time.Now())
	if err != nil {
		return nil, err
	}
	return &signer{cert.Raw, key}, nil
}

// sayers is how many nodes say their keys, and read others', at the same time: nodes do so at
// a time of chance. Of 1,000 at once some have no answer in time, which measures nothing.
const sayers = 32

// values are what a node says to so many others, as when it has a state for each.
func values(node string, others int) (esp.Values, error) {
	k := esp.Keys{Cluster: "scale", Node: node, Sender: public(node), Receiver: public("to " + node), Inbound: map[string]esp.Inbound{}}
	for i := range others {
		if name := nodeName(i); name != node {
			k.Inbound[name] = esp.Inbound{Of: esp.ID(public(name)), SPI: binary.BigEndian.Uint32(public(node + name))}
		}
	}
	return k.Values()
}

// public is as long as a key, and as hard to compress.
func public(of string) []byte {
	sum := sha256.Sum256([]byte(of))
	return sum[:]
}

// encrypt has all nodes say which keys they have, as where all have containers on
// encrypted networks, and read what is for them. Then one more comes.
func (c *simulation) encrypt(ctx context.Context) error {
	s, err := newSigner()
	if err != nil {
		return err
	}
	began := time.Now()
	var stored atomic.Int64
	if err := all(c.nodes, sayers, func(n *node) error {
		t, err := n.says(s, len(c.nodes))
		if err != nil {
			return err
		}
		for _, change := range t.Then {
			stored.Add(int64(len(change.Value)))
		}
		_, _, err = n.Store.Commit(ctx, t)
		return err
	}); err != nil {
		return err
	}
	c.result.said.written, c.result.said.stored = time.Since(began), float64(stored.Load())
	began = time.Now()
	err = all(c.nodes, sayers, func(n *node) error {
		for _, prefix := range []string{keys.Key(""), keys.KeyPage(overlay.KeyPageOf(n.Node), "")} {
			if _, err := n.Store.List(ctx, prefix, func(overlay.Entry) error { return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	c.result.said.read = time.Since(began)
	if err != nil {
		return err
	}
	return c.oneMore(ctx, s)
}

// says returns the transaction by which a node says what it has to say.
func (n *node) says(s *signer, others int) (t overlay.Txn, err error) {
	v, err := values(n.Node, others)
	if err != nil {
		return t, err
	}
	put := func(key string, value []byte) {
		signed, failed := esp.Sign(value, s.certificate, s.key, rand.Reader)
		err = errors.Join(err, failed)
		t.Then = append(t.Then, overlay.Change{Key: key, Value: signed})
	}
	put(keys.Key(n.Node), v.Record)
	for page, value := range v.Pages {
		put(keys.KeyPage(page, n.Node), value)
	}
	return t, err
}

// oneMore has a node come: all others write the page that it reads, and those hear of it
// that read the same one.
func (c *simulation) oneMore(ctx context.Context, s *signer) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	page := overlay.KeyPageOf(nodeName(len(c.nodes)))
	var heard, bytes, written atomic.Int64
	want := 0
	var watches sync.WaitGroup
	defer watches.Wait()
	defer cancel()
	done := make(chan struct{})
	for _, n := range c.nodes {
		if overlay.KeyPageOf(n.Node) != page {
			continue
		}
		want += len(c.nodes)
		after, err := n.Store.List(ctx, keys.Meta(), func(overlay.Entry) error { return nil })
		if err != nil {
			return err
		}
		watches.Go(func() {
			_ = n.Store.Watch(ctx, keys.KeyPage(page, ""), after, func(_ int64, events []overlay.Event) error {
				for _, e := range events {
					bytes.Add(int64(len(e.Value)))
					if heard.Add(1) == int64(want) {
						close(done)
					}
				}
				return nil
			})
		})
	}
	began := time.Now()
	err := all(c.nodes, sayers, func(n *node) error {
		v, err := values(n.Node, len(c.nodes)+1)
		if err != nil {
			return err
		}
		signed, err := esp.Sign(v.Pages[page], s.certificate, s.key, rand.Reader)
		if err != nil {
			return err
		}
		written.Add(int64(len(signed)))
		_, _, err = n.Store.Commit(ctx, overlay.Txn{Then: []overlay.Change{{Key: keys.KeyPage(page, n.Node), Value: signed}}})
		return err
	})
	if err != nil {
		return err
	}
	if want > 0 {
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d pages were heard of", heard.Load(), want)
		}
	}
	c.result.said.one, c.result.said.pages, c.result.said.heard = time.Since(began), float64(written.Load()), float64(bytes.Load())
	return nil
}
