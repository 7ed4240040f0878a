// Package early hands a plugin's call to dnetd before the Go runtime of the
// plugin's process starts.
//
// To start a Go program takes some 1.3 ms here, five times what the kernel needs
// for the process, and a second plugin of a chain has no more to do than that.
// So the linker lets ddns begin at a function of this package (-E, see the
// Makefile): it reads the environment and standard input, sends both to dnetd,
// prints what comes back, and ends. dnetd runs the plugin's own engine, which is
// warm there.
//
// Where anything is not so - no dnetd, one of another version, more input than
// MaxMessage, a verb other than ADD, DEL and CHECK, an argument - it changes
// nothing and goes on to the runtime's own entry. The program then runs as ever,
// finds in [Stdin] what was read, and does all by itself. The same holds for a
// program that is linked without the flag, and for processors that no entry is
// written for.
package early

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
)

// Version is the plugin's and dnetd's, set by the linker: they work together if
// it is the same.
var Version = "v0.0.0-dev"

// Mark stands for a version in messages: the first eight hexadecimal digits of
// its SHA-256. The plugin's is set by the assembler, see the Makefile.
func Mark(version string) string {
	sum := sha256.Sum256([]byte(version))
	return hex.EncodeToString(sum[:4])
}

// Socket is where dnetd listens.
const Socket = "/run/dcni/dnetd.sock"

// Greeting begins the message: behind it come the [Mark] of the version, the
// variables of the environment that begin with CNI_, and an empty string, each
// ended by a zero byte, and then the standard input. No descriptor goes with it: a runtime reads
// a plugin's standard output to its end, which would be dnetd's to say.
const Greeting = "errand"

// MaxMessage is the limit of a message in bytes: of environment and input
// together. A pod's is some 2,000.
const MaxMessage = 64 << 10

// MaxReply is the limit of the answer in bytes.
const MaxReply = 128 << 10

// How dnetd's answer begins. Behind it comes the standard output.
const (
	Done     = 0 // the verb is carried out
	Failed   = 1 // it is not; the error is on the standard output
	Declined = 2 // the plugin has to do it
)

// Timeout is how long the answer may take, in seconds. It takes a millisecond;
// a dnetd that is stopped or stuck is not waited for.
const Timeout = 1

// message has what was read, from where the standard input begins.
var message struct {
	data       [MaxMessage]byte
	begin, end int
}

// reply is what came back.
var reply [MaxReply]byte

// unanswered is set while dnetd has the message, and until its answer is printed.
var unanswered bool

// Unsure reports whether the call was handed over and nobody was told what came
// of it. It may have been carried out as far as anything.
func Unsure() bool { return unanswered }

// Stdin is the standard input, whatever of it was read already.
func Stdin() io.Reader {
	if message.begin == message.end {
		return os.Stdin
	}
	return io.MultiReader(bytes.NewReader(message.data[message.begin:message.end]), os.Stdin)
}
