package demo

import (
	"os"
	"path/filepath"
	"syscall"
)

// folderPattern is for os.MkdirTemp, and with corefileName for filepath.Glob.
const (
	folderPattern = "clusterip-demo-*"
	corefileName  = "Corefile"
)

// newFolder makes the stage's folder. The lock on it ends with this process,
// however that ends, and tells the next demo whether the folder is in use; it is
// also the sign for systemd-tmpfiles to leave it alone.
func newFolder() (dir string, lock *os.File, err error) {
	if dir, err = os.MkdirTemp("", folderPattern); err != nil {
		return "", nil, err
	}
	lock, err = lockFolder(dir)
	return dir, lock, err
}

// removeAbandoned removes the folders of demos that were killed. A folder without
// a Corefile may be one that is not locked yet.
func removeAbandoned() {
	found, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPattern, corefileName))
	for _, corefile := range found {
		dir := filepath.Dir(corefile)
		if lock, err := lockFolder(dir); err == nil {
			os.RemoveAll(dir)
			lock.Close()
		}
	}
}

// lockFolder fails if another process has the lock. Anyone can write to /tmp, so
// nothing but a folder is opened.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
