package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"golang.org/x/time/rate"
)

// policy has browsers load nothing from elsewhere, run nothing that is not a file of ours, and
// make no markup of text (trusted types).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// guard lets through what may be asked of a page, at a pace that harms nobody.
func guard(next http.Handler) http.Handler {
	pace := rate.NewLimiter(pageRate, pageBurst)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pace.Wait(r.Context()) != nil {
			return // the client has gone
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, "nothing can be changed here")
		case r.ContentLength != 0:
			refuse(w, http.StatusRequestEntityTooLarge, "a request here has no body")
		case !isOurs(r):
			refuse(w, http.StatusForbidden, "ask for this page by its address, or as localhost: a name of somebody else may not lead here")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// refuse ends the connection too: what else the client has sent on it is not read.
func refuse(w http.ResponseWriter, code int, why string) {
	w.Header().Set("Connection", "close")
	http.Error(w, why, code)
}

// isOurs reports whether a request is for this server by an address, or by the one name that
// leads to a machine itself. With another name somebody's page in a browser could read what is
// here, when that name has changed its address to ours (DNS rebinding). The port is not looked at, as
// it may have been forwarded.
func isOurs(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if err != nil {
		return false
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return addr.IsLoopback() || ok && local.AddrPort().Addr().Unmap() == addr.Unmap()
}
