package main

import (
	"cmp"
	"runtime/debug"
)

// version is this program's where a build sets it, which is for builds that do not see
// the repository: -ldflags "-X main.version=v1.2.3".
var version string

// ownVersion is version or else what Go has found out: "v1.2.3" at a tag or by go install,
// "v1.2.4-0.20060102150405-0123456789ab" after one, with "+dirty" behind it when files
// were changed. A build that knows none is "devel".
func ownVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "(devel)" {
		return "devel"
	}
	return cmp.Or(info.Main.Version, "devel")
}
