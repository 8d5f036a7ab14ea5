package manifest

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// Some tools give every file one modification time, long ago: only the change
// time tells when another file of the same size has taken its place.
func TestSameModificationTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	replace := func(port int) os.FileInfo {
		write(t, path, serviceText("a", port))
		epoch := time.Unix(1, 0)
		must(t, os.Chtimes(path, epoch, epoch))
		info, err := os.Stat(path)
		must(t, err)
		return info
	}
	p := &parser{families: []cluster.Family{cluster.IPv4}}
	first := replace(1)
	// Change times cannot be set, but the clock of a bubble can: there the file is
	// an hour old.
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(changeTime(first)) + time.Hour)
		f := &file{path: path}
		if changed, _ := f.refresh(first, p, false); !changed || !f.settled {
			t.Fatal("the file is not read, or not settled")
		}
		second := replace(2)
		for changeTime(second).Equal(changeTime(first)) { // within one tick of the kernel
			second = replace(2)
		}
		if changed, _ := f.refresh(second, p, false); !changed {
			t.Error("the file of the same size and modification time is not read")
		}
	})
}
