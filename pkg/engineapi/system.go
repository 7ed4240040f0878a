package engineapi

import (
	"net/http"
	"runtime"
	"time"
)

// ping is GET /_ping, by which clients learn the version.
func (s *Server) ping(w http.ResponseWriter, c *call) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Swarm", "inactive")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if c.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return nil
	}
	_, _ = w.Write([]byte("OK")) // a client that is gone is told nothing
	return nil
}

// A versionReply is the answer to GET /version.
type versionReply struct {
	Platform   struct{ Name string }
	Components []component
	// The rest is what the component Engine has, too.
	Version       string
	APIVersion    string `json:"ApiVersion"`
	MinAPIVersion string
	GitCommit     string
	GoVersion     string
	Os            string
	Arch          string
	KernelVersion string
	BuildTime     string
}

type component struct {
	Name, Version string
	Details       map[string]string
}

// getVersion is GET /version.
func (s *Server) getVersion(w http.ResponseWriter, _ *call) error {
	h, err := s.backend.Host()
	if err != nil {
		return err
	}
	v := versionReply{
		Version: s.version, APIVersion: MaxVersion, MinAPIVersion: MinVersion, GoVersion: runtime.Version(), Os: runtime.GOOS,
		Arch: runtime.GOARCH, KernelVersion: h.Kernel,
	}
	v.Platform.Name = "dcni"
	v.Components = []component{{"Engine", s.version, map[string]string{
		"ApiVersion": v.APIVersion, "MinAPIVersion": v.MinAPIVersion, "GoVersion": v.GoVersion, "GitCommit": "", "BuildTime": "",
		"Os": v.Os, "Arch": v.Arch, "KernelVersion": v.KernelVersion, "Experimental": "false",
	}}}
	return reply(w, http.StatusOK, v)
}

// An infoReply is the answer to GET /info. What is not about networks is empty.
type infoReply struct {
	ID                                                                 string
	Containers, ContainersRunning, ContainersPaused, ContainersStopped int
	Images                                                             int
	Driver                                                             string // of images
	DriverStatus                                                       [][2]string
	Plugins                                                            struct{ Volume, Network, Authorization, Log []string }
	MemoryLimit, SwapLimit, CPUShares, CPUSet, PidsLimit               bool
	IPv4Forwarding                                                     bool
	BridgeNFIPTables                                                   bool `json:"BridgeNfIptables"`
	BridgeNFIP6Tables                                                  bool `json:"BridgeNfIp6tables"`
	Debug                                                              bool
	NGoroutines, NEventsListener                                       int
	SystemTime                                                         string
	LoggingDriver, CgroupDriver                                        string
	KernelVersion, OperatingSystem, OSVersion, OSType, Architecture    string
	NCPU                                                               int
	MemTotal                                                           int64
	DockerRootDir                                                      string
	Name                                                               string
	Labels                                                             []string
	ExperimentalBuild                                                  bool
	ServerVersion                                                      string
	Runtimes                                                           map[string]struct{}
	Swarm                                                              struct{ LocalNodeState string }
	LiveRestoreEnabled                                                 bool
	SecurityOptions                                                    []string
	FirewallBackend                                                    *struct{ Driver string } `json:",omitempty"`
	Warnings                                                           []string
}

// getInfo is GET /info.
func (s *Server) getInfo(w http.ResponseWriter, c *call) error {
	h, err := s.backend.Host()
	if err != nil {
		return err
	}
	list, err := s.backend.Containers()
	if err != nil {
		return err
	}
	out := infoReply{
		ID: "dcni-" + h.Name, Containers: len(list), DriverStatus: [][2]string{}, IPv4Forwarding: h.Forwards, NGoroutines: runtime.NumGoroutine(),
		SystemTime: time.Now().Format(time.RFC3339Nano), KernelVersion: h.Kernel, OperatingSystem: h.System, OSType: runtime.GOOS,
		Architecture: h.Machine, NCPU: runtime.NumCPU(), MemTotal: h.Memory, DockerRootDir: h.StateDir, Name: h.Name, Labels: []string{},
		ServerVersion: s.version, Runtimes: map[string]struct{}{}, SecurityOptions: []string{}, LiveRestoreEnabled: true, NEventsListener: s.events.listeners(),
	}
	for _, one := range list {
		switch one.State {
		case running:
			out.ContainersRunning++
		default:
			out.ContainersStopped++
		}
	}
	out.Plugins.Volume, out.Plugins.Network, out.Plugins.Log = []string{}, h.Drivers, []string{}
	out.Swarm.LocalNodeState = "inactive"
	if !c.version.before("1.49") {
		out.FirewallBackend = &struct{ Driver string }{h.Firewall}
	}
	return reply(w, http.StatusOK, out)
}
