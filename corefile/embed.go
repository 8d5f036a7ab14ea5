// Package corefile holds ready-made configurations, each in a folder to run from.
package corefile

import (
	"embed"
	"io/fs"
)

//go:embed standalone
var files embed.FS

// Standalone returns the folder that coredns serves when it is given no Corefile.
func Standalone() fs.FS {
	dir, err := fs.Sub(files, "standalone")
	if err != nil {
		panic(err) // the path is a constant and valid
	}
	return dir
}
