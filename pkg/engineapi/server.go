package engineapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
)

// maxBody is the limit of a request's body, in bytes.
const maxBody = 1 << 20

// A Server answers requests. It is an http.Handler.
type Server struct {
	// Log is told of failures that are not the client's; nil: they are only answered.
	Log func(format string, args ...any)

	backend Backend
	version string // of dcni
	mux     *http.ServeMux
	events  *hub
	pruning atomic.Bool
	ended   chan struct{} // closed by End
	busy    atomic.Int64  // requests that are being answered
	asked   atomic.Int64  // when the last one was answered, in nanoseconds since 1970
}

// New returns a server of dcni's version.
func New(b Backend, version string) *Server {
	s := &Server{backend: b, version: strings.TrimPrefix(version, "v"), mux: http.NewServeMux(), events: newHub(b.Watch()), ended: make(chan struct{})}
	for pattern, f := range map[string]func(http.ResponseWriter, *call) error{
		"GET /_ping": s.ping, "GET /version": s.getVersion, "GET /info": s.getInfo, "GET /events": s.getEvents,
		"GET /networks": s.listNetworks, "GET /networks/{$}": s.listNetworks, "GET /networks/{id...}": s.getNetwork,
		"POST /networks/create": s.createNetwork, "POST /networks/prune": s.pruneNetworks,
		"POST /networks/{id}/connect": s.connect, "POST /networks/{id}/disconnect": s.disconnect,
		"DELETE /networks/{id...}": s.removeNetwork,
		"GET /containers/json":     s.listContainers, "GET /containers/{id...}": s.getContainer,
		"/": s.unserved,
	} {
		s.mux.Handle(pattern, s.handler(f))
	}
	return s
}

// Run looks for events until the context ends.
func (s *Server) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := s.events.look(); err != nil {
			s.log("events: %v", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// End ends the answers that go on, those of /events. It is called once.
func (s *Server) End() { close(s.ended) }

func (s *Server) log(format string, args ...any) {
	if s.Log != nil {
		s.Log(format, args...)
	}
}

// A call is a request with the version of the API that it is in, and its query.
type call struct {
	*http.Request
	version apiVersion
	query   url.Values
}

// An apiVersion is MAJOR.MINOR.
type apiVersion struct{ major, minor int }

func parseVersion(s string) apiVersion {
	major, minor, _ := strings.Cut(s, ".")
	var v apiVersion
	v.major, _ = strconv.Atoi(major) // not a number: 0, which is too old
	v.minor, _ = strconv.Atoi(minor)
	return v
}

// before reports whether a version is older than another.
func (v apiVersion) before(s string) bool {
	o := parseVersion(s)
	return v.major < o.major || v.major == o.major && v.minor < o.minor
}

// versionKey is the key of a request's version in its context.
type versionKey struct{}

// versionIn returns the version that a path begins with, as /v1.41/networks does; "" for none.
func versionIn(path string) string {
	rest, is := strings.CutPrefix(path, "/v")
	version, _, more := strings.Cut(rest, "/")
	if !is || !more || strings.Trim(version, "0123456789.") != "" {
		return ""
	}
	return version
}

// ServeHTTP answers a request, whose path may begin with a version of the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.counted(func() { s.answer(w, r) })
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Server", "dcni/"+s.version+" (linux)")
	h.Set("Api-Version", MaxVersion)
	h.Set("Ostype", "linux")
	h.Set("Docker-Experimental", "false")
	asked, prefix := MaxVersion, ""
	if version := versionIn(r.URL.Path); version != "" {
		asked, prefix = version, "/v"+version
	}
	v := parseVersion(asked)
	switch {
	case v.before(MinVersion):
		s.fail(w, r, network.Refuse(network.InvalidParameter,
			"client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", asked, MinVersion))
	case parseVersion(MaxVersion).before(asked):
		s.fail(w, r, network.Refuse(network.InvalidParameter,
			"client version %s is too new. Maximum supported API version is %s", asked, MaxVersion))
	default:
		r = r.WithContext(context.WithValue(r.Context(), versionKey{}, v))
		http.StripPrefix(prefix, s.mux).ServeHTTP(w, r)
	}
}

// handler makes a handler of a function. The function returns an error before it has written
// anything.
func (s *Server) handler(f func(http.ResponseWriter, *call) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		c := &call{Request: r}
		c.version, _ = r.Context().Value(versionKey{}).(apiVersion)
		var err error
		if c.query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
			err = network.Refused(network.InvalidParameter, err)
		} else {
			err = f(w, c)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// A notServedError is about what is not about networks.
type notServedError struct{ what string }

// Error has "not supported", for which `docker inspect` goes on to other kinds of objects.
func (e *notServedError) Error() string {
	return "dcni: only networks: " + e.what + " is not supported"
}

var errNoPage = network.Refuse(network.NotFound, "page not found")

// others are what paths of the API begin with that are not about networks.
var others = []string{
	"auth", "build", "commit", "configs", "containers", "distribution", "exec", "grpc", "images", "nodes", "plugins", "secrets", "services",
	"session", "swarm", "system", "tasks", "volumes",
}

// unserved answers what nothing else does.
func (s *Server) unserved(_ http.ResponseWriter, c *call) error {
	first, _, _ := strings.Cut(strings.TrimPrefix(c.URL.Path, "/"), "/")
	if slices.Contains(others, first) {
		return &notServedError{c.Method + " " + c.URL.Path}
	}
	return errNoPage
}

// statusOf returns the status of an error, as Docker's daemon has it.
func statusOf(err error) int {
	if _, is := errors.AsType[*http.MaxBytesError](err); is {
		return http.StatusRequestEntityTooLarge
	}
	if _, is := errors.AsType[*notServedError](err); is {
		return http.StatusNotImplemented
	}
	if _, is := errors.AsType[*catalog.NotFoundError](err); is {
		return http.StatusNotFound
	}
	switch network.ClassOf(err) {
	case network.InvalidParameter:
		return http.StatusBadRequest
	case network.NotFound:
		return http.StatusNotFound
	case network.Forbidden:
		return http.StatusForbidden
	case network.Conflict:
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if status == http.StatusInternalServerError {
		s.log("%s %s: %v", r.Method, r.URL.Path, err)
	}
	_ = reply(w, status, map[string]string{"message": err.Error()})
}

// reply writes an answer. An error is that of a connection that is gone.
func reply(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // a client that is gone is told nothing
	return nil
}

// read reads the body, which is JSON. An empty one leaves into as it is.
func (c *call) read(into any) error {
	invalid := func(format string, args ...any) error {
		return network.Refuse(network.InvalidParameter, format, args...)
	}
	if c.ContentLength == 0 {
		return nil
	}
	given := c.Header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(given)
	switch {
	case err != nil:
		return invalid("malformed Content-Type header (%s): %w", given, err)
	case kind != "application/json":
		return invalid("unsupported Content-Type header (%s): must be 'application/json'", given)
	}
	d := json.NewDecoder(c.Body)
	err = d.Decode(into)
	tooLarge, is := errors.AsType[*http.MaxBytesError](err)
	switch {
	case is:
		return fmt.Errorf("body of more than %d bytes: %w", maxBody, tooLarge)
	case errors.Is(err, io.EOF):
		return invalid("invalid JSON: got EOF while reading request body")
	case err != nil:
		return invalid("invalid JSON: %w", err)
	case d.More():
		return invalid("unexpected content after JSON")
	}
	return nil
}
