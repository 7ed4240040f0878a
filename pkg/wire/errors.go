package wire

import (
	"fmt"
	"net/netip"
)

// Code is an error code as a CNI runtime reads it. The values below 100 are
// those of the CNI specification (section "Error"); from 100 up they are ours.
type Code uint

// The codes that dcni answers with.
const (
	CodeVersion      Code = 1   // incompatible cniVersion
	CodeUnsupported  Code = 2   // a field this plugin knows but cannot honour
	CodeUnknown      Code = 3   // container unknown: the runtime need not DEL
	CodeEnv          Code = 4   // an environment variable is missing or malformed
	CodeIO           Code = 5   // reading or writing failed
	CodeDecode       Code = 6   // stdin is not JSON
	CodeConfig       Code = 7   // the network configuration is invalid
	CodeNetNS        Code = 8   // CNI_NETNS is no network namespace, or vanished
	CodeTryAgain     Code = 11  // may succeed later: a full pool, a store away
	CodeUnavailable  Code = 50  // STATUS: ADD can't be served
	CodeLimited      Code = 51  // STATUS: neither ADD nor what is attached
	CodeAddressTaken Code = 101 // a requested address belongs to another
	CodePortTaken    Code = 102 // a host port belongs to another
	CodeSandbox      Code = 103 // the sandbox, as the runtime made it, can't be attached so
	CodeForbidden    Code = 104 // root did not allow it on this host
	CodeInternal     Code = 999 // anything else
)

// Error is an error with the code it is to be reported under. The message
// names the field, its value and what is allowed.
type Error struct {
	Code Code
	Msg  string
	Err  error // cause, or nil
	// Taken is the address that another interface has, where another address may be free; else
	// the zero Addr.
	Taken netip.Addr
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	return e.Msg + ": " + e.Err.Error()
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an error under a code.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// Invalid returns a configuration error (code 7): the field, its value, and
// what is allowed, as in
//
//	mtu 70000: must be 0 (automatic) or 68 to 65535
func Invalid(field string, value any, allowed string) *Error {
	switch value.(type) {
	case string, fmt.Stringer:
		return Errorf(CodeConfig, "%s \"%v\": %s", field, value, allowed)
	}
	return Errorf(CodeConfig, "%s %v: %s", field, value, allowed)
}
