#!/bin/sh
# etcd's client gives up the renewal of a lease that a member without a leader refuses, though others would renew it.
#
# Version: go.etcd.io/etcd/client/v3 v3.7.3
# A client that wants a leader (WithRequireLeader) and has members in turn is refused by those that know none. It asks again for
# Get, where another member answers. KeepAliveOnce has a loop to do so as well, and leaves it with the first refusal: what it
# looks at is no status of gRPC any more. Mostly the error is "no leader", and EOF where the member had refused before the client
# had sent. A write is refused likewise, though nothing was done. Who renews a lease and reads something in turn asks the same
# member for each renewal, and loses the lease.
. "$(dirname "$0")/common.sh"
module go.etcd.io/etcd/client/v3@v3.7.3 go.etcd.io/etcd/server/v3@v3.7.3

cat >main.go <<'END'
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

func member(name, dir, client, peer, cluster string) *embed.Etcd {
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster, c.LogLevel, c.LogOutputs = name, dir+"/"+name, cluster, "fatal", []string{"/dev/null"}
	at, of := url.URL{Scheme: "http", Host: client}, url.URL{Scheme: "http", Host: peer}
	c.ListenClientUrls, c.AdvertiseClientUrls, c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{at}, []url.URL{at}, []url.URL{of}, []url.URL{of}
	e, err := embed.StartEtcd(c)
	if err != nil {
		panic(err)
	}
	return e
}

func main() {
	dir := os.Args[1]
	well := member("a", dir, "127.0.0.1:1001", "127.0.0.1:2001", "a=http://127.0.0.1:2001")
	const two = "b=http://127.0.0.1:2002,c=http://127.0.0.1:2003"
	b, c := member("b", dir, "127.0.0.1:1002", "127.0.0.1:2002", two), member("c", dir, "127.0.0.1:1003", "127.0.0.1:2003", two)
	for _, e := range []*embed.Etcd{well, b, c} {
		<-e.Server.ReadyNotify()
	}
	c.Close() // b knows no leader any more
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1001", "127.0.0.1:1002"}, Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	for b.Server.Leader() != 0 {
		time.Sleep(50 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(context.Background()), time.Minute)
	defer cancel()
	lease, err := client.Grant(ctx, 60)
	for err != nil {
		lease, err = client.Grant(ctx, 60)
	}
	for _, call := range []struct {
		name string
		do   func() error
	}{
		{"Get", func() error { _, err := client.Get(ctx, "k"); return err }},
		{"Put", func() error { _, err := client.Put(ctx, "k", "v"); return err }},
		{"KeepAliveOnce", func() error { _, err := client.KeepAliveOnce(ctx, lease.ID); return err }},
	} {
		refused := 0
		for range 20 {
			if call.do() != nil {
				refused++
			}
		}
		fmt.Printf("%s: refused %d of 20\n", call.name, refused)
	}
	os.Exit(0)
}
END
go mod tidy >/dev/null 2>&1
go build -o "$work/bin/" .
seen "$(cat <<-'END'
	Get: refused 0 of 20
	Put: refused 10 of 20
	KeepAliveOnce: refused 10 of 20
END
)" "$(alone sh -c 'ip link set lo up && "$1" "$2"' sh "$work/bin/finding" "$work" 2>&1)"
