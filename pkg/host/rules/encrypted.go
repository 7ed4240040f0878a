package rules

import (
	"errors"
	"fmt"

	"dcni/pkg/firewall"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// fwEncrypted is a [firewall.Encrypted].
type fwEncrypted struct {
	h *Rules
	o *firewall.Encrypted
}

// Ensure closes the port to what is not encrypted, and notes before that it does. The
// policies come first: without ESP they are refused, and then nothing is made. The caller
// holds the host's lock.
func (e fwEncrypted) Ensure() (bool, error) {
	if e.Check() == nil {
		return false, nil
	}
	if err := e.Probe(); err != nil {
		return false, err
	}
	family := 4
	if e.o.IPv6 {
		family = 6
	}
	if err := e.h.Records.PutChange(&records.Change{Key: e.o.Key(), Encrypted: e.o.Port, Family: family}); err != nil {
		return false, err
	}
	for _, p := range e.o.Policies() {
		if _, err := e.h.IPsec.Ensure(p); err != nil {
			return true, err
		}
	}
	_, err := e.h.nft.Ensure(e.o)
	return true, err
}

func (e fwEncrypted) Check() error {
	if !e.h.Records.HasChange(e.o.Key()) {
		return errors.New("it is not on record")
	}
	for _, p := range e.o.Policies() {
		if err := e.h.IPsec.Check(p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return e.h.nft.Check(e.o)
}

// Remove opens the port, for both families: a record that can't be read does not tell which
// it was. States with other nodes, which a dnetd that died has left, go along. The caller
// holds the host's lock.
func (e fwEncrypted) Remove() error {
	if !e.h.Records.HasChange(e.o.Key()) {
		return nil
	}
	states, policies, err := e.h.IPsec.ESP()
	errs := []error{err}
	for _, p := range policies {
		errs = append(errs, e.h.IPsec.Remove(p))
	}
	for _, s := range states {
		errs = append(errs, e.h.IPsec.Remove(s.Object()))
	}
	for _, six := range []bool{false, true} {
		for _, p := range (&firewall.Encrypted{Port: e.o.Port, IPv6: six}).Policies() {
			errs = append(errs, e.h.IPsec.Remove(p))
		}
	}
	if err := errors.Join(append(errs, e.h.nft.Remove(e.o))...); err != nil {
		return err
	}
	return e.h.Records.DeleteChange(e.o.Key())
}

func (e fwEncrypted) Probe() error { return e.h.IPsec.Probe(wire.Object(e.o.Policies()[0])) }
