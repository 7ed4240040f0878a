package etcd

import (
	"context"
	"net"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// An old is an etcd of which nothing is known but its version.
type old struct {
	pb.UnimplementedMaintenanceServer
}

func (old) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Version: "3.3.27"}, nil
}

// TestVersionOld: an etcd that says it is 3.3 is heard, and refused.
func TestVersionOld(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterMaintenanceServer(server, old{})
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	s, err := Open(Config{Endpoints: []string{"http://" + l.Addr().String()}, Fixed: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	version, err := s.Version(t.Context())
	if version != "3.3.27" || err != nil {
		t.Fatalf("%q, %v", version, err)
	}
	if _, err := CheckVersion(version, true); err == nil {
		t.Error("it is no store, and was taken")
	}
}
