// Package ipam decides addresses: what a network's `ipam` section means, which
// subnet a network without one gets, which addresses an attachment may have and
// which one is next. It is pure: it imports pkg/wire and the standard library.
// Taken addresses come in as a value or through the small interface [Bitmap];
// package records stores them.
//
// # Which addresses are handed out
//
// The network address of a subnet and the broadcast address of an IPv4 subnet
// never are, except where a subnet is too small to have them (/31, /32, /127,
// /128). The gateway and the auxiliary addresses never are either. Dynamic
// addresses come out of the range, or the whole subnet without one; the first
// and last address of a range are addresses like others. A static address may
// be outside the range, but not outside the subnet.
//
// One address per family: several subnets of a family are alternatives, tried
// in order. Range sets of the runtime (capability ipRanges) stand in for the
// configured subnets of their family, one address per set.
package ipam
