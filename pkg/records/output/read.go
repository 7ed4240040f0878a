package output

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// An Entry is a line of output, or a part of a long one.
type Entry struct {
	Time   time.Time
	Stream string // stdout or stderr
	Text   []byte // with its end of line, if it has one
}

// parse reads a line of the file. A line that was not written whole is none.
func parse(line []byte) (Entry, bool) {
	const parts = 4 // time, stream, tag, text
	fields := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(" "), parts)
	if len(fields) < parts {
		return Entry{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(fields[0]))
	e := Entry{Time: t, Stream: string(fields[1]), Text: bytes.Clone(fields[3])}
	if string(fields[2]) == "F" {
		e.Text = append(e.Text, '\n')
	}
	return e, err == nil
}

// A Reader reads the output of a container, also while it is written.
type Reader struct {
	dir   string
	file  *os.File
	lines *bufio.Reader
	begun []byte // of a line that is not written whole yet
}

// Open reads a container's output from its beginning. The error is fs.ErrNotExist if there is
// none.
func Open(dir string) (*Reader, error) {
	r := &Reader{dir: dir}
	for _, name := range []string{former, fileName} {
		f, err := os.Open(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r.use(f)
		return r, nil
	}
	return nil, fs.ErrNotExist
}

func (r *Reader) use(f *os.File) {
	if r.file != nil {
		_ = r.file.Close()
	}
	r.file, r.lines, r.begun = f, bufio.NewReader(f), nil
}

// Close ends reading.
func (r *Reader) Close() error { return r.file.Close() }

// Next returns the next entry. The error is io.EOF where there is none yet.
func (r *Reader) Next() (Entry, error) {
	for {
		line, err := r.lines.ReadBytes('\n')
		r.begun = append(r.begun, line...)
		if errors.Is(err, io.EOF) {
			if r.follow() {
				continue
			}
			return Entry{}, io.EOF
		}
		if err != nil {
			return Entry{}, err
		}
		e, ok := parse(r.begun)
		r.begun = nil
		if ok {
			return e, nil
		}
	}
}

// follow goes on to the present file when the one that is read is not it any more.
func (r *Reader) follow() bool {
	now, err := os.Open(Path(r.dir))
	if err != nil {
		return false
	}
	a, errA := now.Stat()
	b, errB := r.file.Stat()
	if errA != nil || errB != nil || os.SameFile(a, b) {
		_ = now.Close()
		return false
	}
	r.use(now)
	return true
}
