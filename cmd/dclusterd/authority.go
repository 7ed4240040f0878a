package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"dcni/pkg/trust"
	"dcni/pkg/trust/join"
)

// The CA's key is where a member of the store is, so that hosts join and certificates are
// renewed as long as there is a store, whichever nodes died: on the first node from the
// start, on others from when the leader chose them. A node asks those that have it.

// authority is the CA with its key, nil where the node does not have it.
func (n *node) authority() *trust.CA { return n.ca.Load() }

// setAuthority has the node admit others from now on.
func (n *node) setAuthority(ca *trust.CA) {
	if ca != nil && n.ca.CompareAndSwap(nil, ca) {
		close(n.authorized)
	}
}

// needAuthority gets the CA's key, if the node has a member and not the key.
func (n *node) needAuthority(ctx context.Context) error {
	if n.authority() != nil || n.member() == nil {
		return nil
	}
	request := join.AuthorityRequest{ID: n.conf().ID}
	return n.askDoors(func(caller join.Caller) error {
		reply, err := caller.Authority(ctx, request)
		if err != nil {
			return err
		}
		key, err := trust.ParseKey(caller.Address+": the CA's key", reply.CAKey)
		if err != nil {
			return err
		}
		ca := &trust.CA{Cert: n.current().CA, Key: key}
		if !key.PublicKey.Equal(ca.Cert.PublicKey) {
			return fmt.Errorf("%s: its CA's key is another one's", caller.Address)
		}
		if err := n.state.Write(fileCAKey, reply.CAKey); err != nil {
			return err
		}
		n.log.Info("this node has the CA's key, as it has a member of the store")
		n.setAuthority(ca)
		return nil
	})
}

// askDoors asks the join doors that the node may know of, but for its own, until one answers.
func (n *node) askDoors(ask func(join.Caller) error) error {
	errs := []error{errors.New("no node that is known to have the CA's key answers as it should")}
	for _, address := range n.conf().doors() {
		if address == n.conf().hostPort(join.Port) {
			continue
		}
		err := ask(join.Caller{Address: address, TLS: n.clientTLS(), Timeout: storeTime})
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// knockTime is how long a door may take to open.
const knockTime = time.Second

// openDoor returns where a host can join, HOST:PORT: here, or at the first door that the
// node knows and that is open. Where none is, it is the one where this node joined.
func (n *node) openDoor(ctx context.Context) string {
	c := n.conf()
	if n.authority() != nil {
		return c.hostPort(join.Port)
	}
	for _, address := range c.doors() {
		conn, err := (&net.Dialer{Timeout: knockTime}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
			return address
		}
	}
	return c.Door
}
