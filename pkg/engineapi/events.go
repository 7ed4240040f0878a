package engineapi

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"dcni/pkg/network"
)

// lookEvery is how often what is there is compared with what was there. After what clients
// asked for, it is compared at once.
const lookEvery = 200 * time.Millisecond

// remembered is how many events are kept for the parameter since, as many as Docker keeps.
const remembered = 256

// behind is how many events a client may be behind. Its answer then ends.
const behind = 1024

// A hub passes events on to clients.
type hub struct {
	mu      sync.Mutex
	watch   func() ([]Event, error)
	past    []Event // the oldest first
	clients map[chan Event]bool
}

func newHub(watch func() ([]Event, error)) *hub {
	return &hub{watch: watch, clients: map[chan Event]bool{}}
}

// look looks for events.
func (h *hub) look() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	list, err := h.watch()
	for _, e := range list {
		h.pass(e)
	}
	return err
}

// add passes an event on that is not found by looking.
func (h *hub) add(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pass(e)
}

// pass passes an event on. The caller holds the lock.
func (h *hub) pass(e Event) {
	if len(h.past) == remembered {
		h.past = h.past[1:]
	}
	h.past = append(h.past, e)
	for c := range h.clients {
		select {
		case c <- e:
		default: // a client that does not read must not hold up the others
			h.leave(c)
		}
	}
}

// join returns the events so far, and a channel of those to come, which is closed if the
// client is too far behind.
func (h *hub) join() (past []Event, c chan Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c = make(chan Event, behind)
	h.clients[c] = true
	return append(past, h.past...), c
}

// leave closes a client's channel. The caller holds the lock.
func (h *hub) leave(c chan Event) {
	if h.clients[c] {
		delete(h.clients, c)
		close(c)
	}
}

func (h *hub) end(c chan Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leave(c)
}

// happened looks for events after something was done, so that clients are told of what came
// and went between two looks.
func (s *Server) happened() {
	if err := s.events.look(); err != nil {
		s.log("events: %v", err)
	}
}

// pruned is the event of a prune, as Docker has it.
func pruned() (e Event) {
	now := time.Now()
	e.Type, e.Action, e.Scope, e.Time, e.TimeNano = "network", "prune", "local", now.Unix(), now.UnixNano()
	e.Actor.Attributes = map[string]string{"reclaimed": "0"}
	return e
}

// An eventStream is an answer to /events.
type eventStream struct {
	since, until time.Time
	filters      map[string][]string
	encoder      *json.Encoder
	flush        func() error
}

// getEvents is GET /events: a JSON object for each event, until the client goes, or until.
func (s *Server) getEvents(w http.ResponseWriter, c *call) error {
	e := &eventStream{encoder: json.NewEncoder(w), flush: http.NewResponseController(w).Flush}
	var err error
	if e.since, err = c.moment("since"); err != nil {
		return err
	}
	if e.until, err = c.moment("until"); err != nil {
		return err
	}
	if !e.until.IsZero() && e.until.Before(e.since) {
		return network.Refuse(network.InvalidParameter, "`since` time (%s) cannot be after `until` time (%s)", c.query.Get("since"), c.query.Get("until"))
	}
	if e.filters, err = c.filters(); err != nil {
		return err
	}
	s.happened() // from now on
	past, next := s.events.join()
	defer s.events.end(next)
	kind := "application/jsonl"
	if c.version.before("1.52") {
		kind = "application/json"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(http.StatusOK)
	if e.since.IsZero() && e.until.IsZero() {
		past = nil
	}
	e.follow(c, past, next, s.ended)
	return nil
}

// follow sends what has happened, and what happens until it is time to end, or the client is
// gone.
func (e *eventStream) follow(c *call, past []Event, next <-chan Event, ended <-chan struct{}) {
	if e.flush() != nil {
		return
	}
	for _, one := range past {
		if e.send(one) != nil {
			return
		}
	}
	var timeout <-chan time.Time
	if !e.until.IsZero() {
		timeout = time.After(time.Until(e.until))
	}
	for {
		select {
		case one, more := <-next:
			if !more || e.send(one) != nil {
				return
			}
		case <-timeout:
			return
		case <-ended:
			return
		case <-c.Context().Done():
			return
		}
	}
}

// send sends an event that passes the filters.
func (e *eventStream) send(one Event) error {
	at := time.Unix(0, one.TimeNano)
	if at.Before(e.since) || !e.until.IsZero() && at.After(e.until) || !passes(one, e.filters) {
		return nil
	}
	if err := e.encoder.Encode(one); err != nil {
		return err
	}
	return e.flush()
}

// passes reports whether an event passes filters, as with Docker: those that are named like a
// kind of object compare the beginning of the object's ID or name. Others let all pass.
func passes(e Event, f map[string][]string) bool {
	for _, kind := range []string{"daemon", "container", "plugin", "volume", "network", "node", "service", "secret", "config"} {
		if !anyOf(f[kind], begins(e.Actor.ID)) && !anyOf(f[kind], begins(e.Actor.Attributes["name"])) {
			return false
		}
	}
	return anyOf(f["event"], is(e.Action)) && anyOf(f["type"], is(e.Type)) && anyOf(f["scope"], is(e.Scope)) &&
		anyOf(f["image"], is(e.Actor.Attributes["image"])) && hasLabels(e.Actor.Attributes, f["label"])
}

// listeners counts the clients that are told of events.
func (h *hub) listeners() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.clients)
}
