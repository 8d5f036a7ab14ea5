// Command release makes the container image of a release: an OCI image layout in a tar file
// with an image for each platform, which a container runtime, a registry or buildah takes. It
// needs neither a registry nor a daemon. What is in an image depends on the programs and
// on Debian's packages alone, so the same release made twice is the same file.
//
//	go run . -o image.tar ../dist/coredns-linux-amd64 ../dist/coredns-linux-arm64
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	output := flag.String("o", "", "the `FILE` to write")
	flag.Parse()
	if *output == "" || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: release -o FILE PROGRAM…")
		os.Exit(2)
	}
	if err := release(*output, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release writes the images of programs to a file.
func release(output string, paths []string) error {
	var platforms []platform
	for _, path := range paths {
		p, err := readProgram(path)
		if err != nil {
			return err
		}
		packages, err := fetchPackages(p.architecture)
		if err != nil {
			return fmt.Errorf("packages for %s: %w", p.architecture, err)
		}
		platforms = append(platforms, platform{p, packages})
	}
	index, err := newIndex(platforms)
	if err != nil {
		return err
	}
	return writeLayout(output, index, platforms[0].tag())
}
