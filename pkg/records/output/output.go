// Package output keeps what containers of `dnet run -d` print, for `dnet logs`. A line of the
// file is one line of output in the format that Kubernetes' runtimes write (CRI):
//
//	2016-10-06T00:17:09.669794202Z stdout F The text
//
// A line that is longer than [MaxLine] is written in parts; all but the last have P in place
// of F. At [MaxFile] bytes the file becomes output.log.1, in place of the one before: a
// container that prints without end does not fill the disk, or the memory that /run is.
package output

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Limits, in bytes.
const (
	MaxLine = 16 << 10
	MaxFile = 4 << 20
)

// fileName is that of the file in a container's folder, and former that of the one before.
const (
	fileName = "output.log"
	former   = fileName + ".1"
)

// Path returns the file of a container's output, in its folder.
func Path(dir string) string { return filepath.Join(dir, fileName) }

// timeForm is RFC 3339 with nine digits, so that lines are in the order of their texts.
const timeForm = "2006-01-02T15:04:05.000000000Z07:00"

// A Writer is the output of one container while it runs.
type Writer struct {
	dir  string
	now  func() time.Time
	mu   sync.Mutex
	file *os.File
	size int
}

// Create begins the output of a container, in its folder, or goes on behind what the container
// printed when it ran before. now tells the time.
func Create(dir string, now func() time.Time) (*Writer, error) {
	w := &Writer{dir: dir, now: now}
	return w, w.open()
}

func (w *Writer) open() error {
	f, err := os.OpenFile(Path(w.dir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	w.file, w.size = f, int(info.Size())
	return nil
}

// Close ends the output.
func (w *Writer) Close() error { return w.file.Close() }

// Copy writes what a stream, "stdout" or "stderr", has until it ends. What can't be written
// is left out: the container goes on all the same.
func (w *Writer) Copy(stream string, from io.Reader) {
	lines := bufio.NewReaderSize(from, MaxLine)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			w.line(stream, line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// line writes a line, or a part of one.
func (w *Writer) line(stream string, text []byte) {
	tag := "F"
	if text[len(text)-1] == '\n' {
		text = text[:len(text)-1]
	} else {
		tag = "P"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	entry := fmt.Appendf(nil, "%s %s %s %s\n", w.now().UTC().Format(timeForm), stream, tag, text)
	if w.size > 0 && w.size+len(entry) > MaxFile {
		_ = w.file.Close()
		if os.Rename(Path(w.dir), filepath.Join(w.dir, former)) != nil || w.open() != nil {
			return
		}
	}
	n, _ := w.file.Write(entry)
	w.size += n
}
