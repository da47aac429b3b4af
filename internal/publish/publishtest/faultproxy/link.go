package faultproxy

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Link is a line to a server; the zero value is none.
type Link struct {
	// Rate is how many bytes a second go to the server, of all connections
	// together; 0 for no limit. Answers have none.
	Rate int64
	// Delay is how long a byte is under way in each direction: a round trip is
	// two of them.
	Delay time.Duration
}

// A chunk is what is read at once; up to window of them are under way in each
// direction of a connection.
const (
	chunkSize = 64 << 10
	window    = 64
)

// Start lays a line to the server at address (host:port) and returns the address
// at its near end. It ends with the test.
func (l Link) Start(t testing.TB, address string) string {
	t.Helper()
	near, stop, err := l.Open(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return near
}

// Open is Start for a program; stop takes the line away.
func (l Link) Open(address string) (near string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	line := &line{rate: l.Rate}
	var all sync.WaitGroup
	conns := &connections{}
	all.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", address)
			if err != nil {
				near.Close()
				continue
			}
			conns.add(near, far)
			all.Go(func() { pump(far, near, line, l.Delay) })
			all.Go(func() { pump(near, far, &line0, l.Delay) })
		}
	})
	stop = func() {
		listener.Close()
		conns.close()
		all.Wait()
	}
	return listener.Addr().String(), stop, nil
}

// connections are closed when the line is taken away.
type connections struct {
	mu   sync.Mutex
	list []net.Conn
	over bool
}

func (c *connections) add(conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, conns...)
	if c.over {
		for _, conn := range conns {
			conn.Close()
		}
	}
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for _, conn := range c.list {
		conn.Close()
	}
}

// line is what all connections share: a byte is through when those before it are.
type line struct {
	rate int64

	mu   sync.Mutex
	free time.Time // when the line is idle next
}

// line0 has no limit.
var line0 line

// pass returns when n bytes that come now are through.
func (l *line) pass(n int) time.Time {
	now := time.Now()
	if l.rate <= 0 {
		return now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(int64(n) * int64(time.Second) / l.rate))
	return l.free
}

// chunk is some bytes and when they are there; the last has none.
type chunk struct {
	data []byte
	at   time.Time
}

// pump carries bytes from one connection to the other until either ends.
func pump(to, from net.Conn, l *line, delay time.Duration) {
	under, rooms := make(chan chunk, window), sync.Pool{New: func() any { return make([]byte, chunkSize) }}
	over := make(chan struct{})
	go func() {
		defer close(under)
		for {
			room := rooms.Get().([]byte)
			n, err := from.Read(room)
			at := l.pass(n)
			// Who sends waits while the line is busy, as its socket would.
			time.Sleep(time.Until(at))
			select {
			case under <- chunk{room[:n], at.Add(delay)}:
			case <-over:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for c := range under {
		time.Sleep(time.Until(c.at))
		if len(c.data) == 0 {
			break
		}
		if _, err := to.Write(c.data); err != nil {
			break
		}
		rooms.Put(c.data[:chunkSize]) //nolint:staticcheck // the header's allocation does not matter here
	}
	close(over)
	to.Close()
	from.Close()
}
