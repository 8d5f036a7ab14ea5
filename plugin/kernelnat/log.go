package kernelnat

import (
	"fmt"
	"strings"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

var log = lineLogger{clog.NewWithPlugin(name)}

// lineLogger writes each message on one line. CoreDNS's logger gives the first line alone a
// level and a name, and several errors that are joined to one have a line each.
type lineLogger struct{ clog.P }

// Infof implements kernelnat.Logger.
func (l lineLogger) Infof(format string, args ...any) { l.P.Info(onOneLine(format, args)) }

// Warningf shadows that of CoreDNS's logger.
func (l lineLogger) Warningf(format string, args ...any) { l.P.Warning(onOneLine(format, args)) }

// Errorf implements kernelnat.Logger.
func (l lineLogger) Errorf(format string, args ...any) { l.P.Error(onOneLine(format, args)) }

func onOneLine(format string, args []any) string {
	return strings.ReplaceAll(strings.TrimSpace(fmt.Sprintf(format, args...)), "\n", "; ")
}
