package network

import (
	"errors"
	"fmt"
)

// A Class is what kind of error a refusal is. Clients of Docker's API are told it by an HTTP
// status.
type Class int

// The classes, by the names that Docker's daemon has for them (moby, errdefs).
const (
	Unclassified     Class = iota // anything else, as a failure of the kernel
	InvalidParameter              // what is asked for can't be understood, or can't be
	NotFound                      // what is asked for is not there
	Forbidden                     // it is there, and must stay as it is
	Conflict                      // it contradicts the state of something else
)

// A Refusal is an error of a class.
type Refusal struct {
	Class Class
	Err   error // not nil
}

func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the error without its class.
func (r *Refusal) Unwrap() error { return r.Err }

// Refuse returns an error of a class.
func Refuse(c Class, format string, args ...any) error {
	return &Refusal{c, fmt.Errorf(format, args...)}
}

// Refused gives an error a class, unless it has one, or is nil.
func Refused(c Class, err error) error {
	if err == nil || ClassOf(err) != Unclassified {
		return err
	}
	return &Refusal{c, err}
}

// ClassOf returns the class of an error.
func ClassOf(err error) Class {
	if r, is := errors.AsType[*Refusal](err); is {
		return r.Class
	}
	if _, is := errors.AsType[*NoContainerError](err); is {
		return NotFound
	}
	if _, is := errors.AsType[*NotRunningError](err); is {
		return Conflict
	}
	return Unclassified
}
