package main

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
)

// platform is a program and what its image has besides.
type platform struct {
	program
	packages []packaged
}

// newIndex returns an index of the images of platforms.
func newIndex(platforms []platform) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		image, err := p.image()
		if err != nil {
			return nil, fmt.Errorf("image for %s: %w", p.architecture, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
			MediaType: types.OCIManifestSchema1,
			Platform:  &v1.Platform{OS: "linux", Architecture: p.architecture},
		}})
	}
	return index, nil
}

// image is what the Dockerfile makes, without a shell.
func (p platform) image() (v1.Image, error) {
	packages, err := newLayer(packagesLayer(p.packages, p.at))
	if err != nil {
		return nil, err
	}
	own, err := newLayer([]entry{p.withPort53()})
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: p.at.UTC()}
	image, err := mutate.Append(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		mutate.Addendum{Layer: packages, History: v1.History{Created: created, CreatedBy: "Debian's packages"}},
		mutate.Addendum{Layer: own, History: v1.History{Created: created, CreatedBy: "coredns"}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", p.architecture, created
	config.Config = v1.Config{
		User:         "65532:65532",
		ExposedPorts: map[string]struct{}{"53/tcp": {}, "53/udp": {}},
		Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Entrypoint:   []string{"/coredns"},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "clusterip",
			"org.opencontainers.image.version":  p.version,
			"org.opencontainers.image.revision": p.revision,
			"org.opencontainers.image.source":   "https://github.com/clusterip/clusterip",
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(image, config)
}

// withPort53 is the program with the right to serve port 53 without root, which setcap
// cap_net_bind_service=+ep gives to a file. NAT needs more, and so root.
func (p program) withPort53() entry {
	e := regular("coredns", 0o755, p.content, p.at)
	// struct vfs_cap_data of linux/capability.h: version 2 and "effective", then what is permitted
	// and what is inheritable in two words.
	var data []byte
	for _, word := range []uint32{0x02000001, 1 << unix.CAP_NET_BIND_SERVICE, 0, 0, 0} {
		data = binary.LittleEndian.AppendUint32(data, word)
	}
	e.header.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": string(data)}
	return e
}

// newLayer returns a layer of files.
func newLayer(files []entry) (v1.Layer, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range files {
		f.header.Format = tar.FormatUnknown // as the header needs, whatever it was in
		if err := w.WriteHeader(f.header); err != nil {
			return nil, fmt.Errorf("%s: %w", f.header.Name, err)
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, fmt.Errorf("%s: %w", f.header.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}
