package network

import (
	"errors"
	"fmt"
	"testing"
)

func TestClassOf(t *testing.T) {
	plain := errors.New("netlink: message too long")
	for _, c := range []struct {
		err  error
		want Class
		text string
	}{
		{plain, Unclassified, "netlink: message too long"},
		{Refuse(Conflict, "network with name %s already exists", "web"), Conflict, "network with name web already exists"},
		{fmt.Errorf("create: %w", Refuse(Forbidden, "no")), Forbidden, "create: no"},
		{errors.Join(plain, Refuse(NotFound, "plugin not found")), NotFound, "netlink: message too long\nplugin not found"},
		{Refused(InvalidParameter, plain), InvalidParameter, "netlink: message too long"},
		{Refused(InvalidParameter, Refuse(Forbidden, "no")), Forbidden, "no"},
		{Refused(InvalidParameter, &NoContainerError{"c1"}), NotFound, "No such container: c1"},
		{&NotRunningError{&Donor{Container: "c1", State: Exited}}, Conflict, "container c1 is exited"},
	} {
		if got := ClassOf(c.err); got != c.want || c.err.Error() != c.text {
			t.Errorf("%v: class %d, want %d of %q", c.err, got, c.want, c.text)
		}
	}
	if Refused(Conflict, nil) != nil {
		t.Error("no error became a refusal")
	}
	if !errors.Is(Refused(Conflict, plain), plain) {
		t.Error("the error is not in its refusal")
	}
}
