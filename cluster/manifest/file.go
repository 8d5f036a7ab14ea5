package manifest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// unsettled is how long after its last change a file may change again without a
// new time: some file systems count in steps of two seconds.
const unsettled = 2 * time.Second

// file is one file of the folder.
type file struct {
	path string
	// info is from before the file was read; settled means that a later change
	// would show in it.
	info    fs.FileInfo
	settled bool
	hash    [sha256.Size]byte // of the text that content came from
	content *content          // nil until the file was read once
	// failure says why the file could not be read: content is then what it was
	// before.
	failure error
	// lostAt is when the file was last out of reach, with a folder that could not
	// be read. It is zero again once the file was found; see folder.filling.
	lostAt time.Time
}

// refresh reads the file if it changed. It reports whether anything is new, and
// whether the file is gone by now. While a folder that was lost is still filling,
// a file of it that differs may be half-copied, and stays what it was.
func (f *file) refresh(info fs.FileInfo, p *parser, filling bool) (changed, gone bool) {
	if f.settled && sameVersion(f.info, info) {
		return f.foundAgain(), false
	}
	data, info, err := read(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, true
	}
	if err != nil {
		err = fmt.Errorf("the file cannot be read: %w; what it held stays in force", pathless(err))
		changed = f.failure == nil || f.failure.Error() != err.Error()
		f.settled, f.failure = false, err
		return changed, false
	}
	changed = f.failure != nil
	f.failure = nil
	hash := sha256.Sum256(data)
	if filling && f.isLost() && f.content != nil && hash != f.hash {
		changed = changed || !sameVersion(f.info, info)
		f.info, f.settled = info, false
		return changed, false
	}
	f.info = info
	f.settled = time.Since(info.ModTime()) > unsettled && time.Since(changeTime(info)) > unsettled
	changed = f.foundAgain() || changed
	if f.content != nil && hash == f.hash {
		return changed, false
	}
	f.hash = hash
	next := p.parse(f.path, data)
	next.keepLastGood(f.content)
	next.problems = boundProblems(next.problems, f.path)
	f.content = next
	return true, false
}

func (f *file) isLost() bool { return !f.lostAt.IsZero() }

func (f *file) foundAgain() bool {
	wasLost := f.isLost()
	f.lostAt = time.Time{}
	return wasLost
}

func sameVersion(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && changeTime(a).Equal(changeTime(b))
}

// changeTime is when the kernel last saw the file change. Tools set modification
// times, those of archives and reproducible builds to one and the same, but
// nobody sets this.
func changeTime(info fs.FileInfo) time.Time {
	return time.Unix(info.Sys().(*syscall.Stat_t).Ctim.Unix())
}

// isUnread reports whether what the file says now is not known.
func (f *file) isUnread() bool { return f.failure != nil || f.isLost() || f.content == nil }

// incomplete reports whether the file may have Services that are not known.
func (f *file) incomplete() bool { return f.isUnread() || f.content.incomplete() }

// read returns the text of a file and what was known of it before reading, so
// that a change during the reading shows.
func read(path string) ([]byte, fs.FileInfo, error) {
	// Opening a FIFO that was put there since the listing must not block.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("it is not a regular file")
	}
	if info.Size() > maxFileSize {
		return nil, nil, fmt.Errorf("it is larger than %d MiB: split it", maxFileSize>>20)
	}
	// A file that grows or shrinks meanwhile is read again for its new size.
	data := make([]byte, info.Size())
	n, err := io.ReadFull(file, data)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return data[:n], info, err
}
