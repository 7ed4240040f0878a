package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"dcni/cmd/internal/usage"
	"dcni/pkg/overlay/etcd/member"
)

// runMember is the process of a member: it reads a memberSpec, and runs the member until
// its input or the context ends. It returns the exit status.
func runMember(ctx context.Context, in io.Reader, stderr io.Writer) int {
	var spec member.Config
	d := json.NewDecoder(in)
	if err := d.Decode(&spec); err != nil {
		fmt.Fprintf(stderr, memberSays+"%v\n", err)
		return usage.StatusUsage
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	go func() { // this process's parent is gone at the end of the input
		_, _ = io.Copy(io.Discard, io.MultiReader(d.Buffered(), in))
		end()
	}()
	m, err := member.Start(ctx, spec)
	if err == nil {
		err = m.Wait(ctx)
		m.Close()
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(stderr, memberSays+"%v\n", err)
		return usage.StatusError
	}
	return 0
}
