package main

import (
	"archive/tar"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// writeLayout writes an index of images, and all that it refers to, as an OCI image
// layout in a tar file.
func writeLayout(output string, index v1.ImageIndex, tag string) error {
	dir, err := os.MkdirTemp("", "clusterip-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	names := layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": tag,
		"io.containerd.image.name":          "docker.io/library/clusterip:" + tag, // for a Pod's image: clusterip:TAG
	})
	if err := path.AppendIndex(index, names); err != nil {
		return err
	}
	return writeTar(output, dir)
}

// writeTar writes the files of a folder, in the order of their names and with nothing of
// their times and owners.
func writeTar(output, dir string) (err error) {
	file, err := os.Create(output)
	if err != nil {
		return err
	}
	defer func() {
		if closed := file.Close(); err == nil {
			err = closed
		}
	}()
	w := tar.NewWriter(file)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(filepath.ToSlash(strings.TrimPrefix(path, dir)), "/")
		if err != nil || name == "" {
			return err
		}
		e := folder(name, time.Unix(0, 0))
		if !d.IsDir() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			e = regular(name, 0o644, content, time.Unix(0, 0))
		}
		if err := w.WriteHeader(e.header); err != nil {
			return err
		}
		_, err = w.Write(e.content)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}
