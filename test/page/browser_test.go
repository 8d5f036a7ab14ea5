package page

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/clusterip/clusterip/test/clustertest"
)

// patience is how long the page may take to show what is expected, on a machine that does other things.
const patience = 20 * time.Second

// browser is a tab of a headless Chromium.
type browser struct {
	t    *testing.T
	ctx  context.Context
	site string // where the page is

	mu         sync.Mutex
	allowed    []string // of what the browser may complain
	complaints []string // of the browser, and requests to elsewhere
}

// newBrowser starts one, or skips the test where there is none. In the end it fails the
// test if the page has had errors, or has asked somebody else for something.
func newBrowser(t *testing.T, site string) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	switch {
	case err == nil:
	case os.Getenv("E2E_REQUIRED") == "1":
		t.Fatalf("E2E_REQUIRED=1 and %v: apt-get install chromium", err)
	default:
		t.Skipf("needs a browser: %v", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // as root it has none
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.Flag("lang", "en"),
		chromedp.WSURLReadTimeout(time.Minute),
	)
	allocator, end := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(end)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, site: site, allowed: []string{"status of 400"}} // for what is no target
	if err := chromedp.Do(ctx); err != nil {                                      // starts it
		t.Fatal(err)
	}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, c := range b.complaints {
			t.Error(c)
		}
	})
	return b
}

// allow has the browser complain of what the test does itself.
func (b *browser) allow(complaint string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = append(b.allowed, complaint)
}

func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, b.site) {
			b.complaints = append(b.complaints, "the page asks for "+e.Request.URL)
		}
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, "a script fails: "+fmt.Sprint(e.ExceptionDetails))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && !slices.ContainsFunc(b.allowed, func(a string) bool { return strings.Contains(e.Entry.Text, a) }) {
			b.complaints = append(b.complaints, "the browser complains: "+e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// open shows a view: the part of the address behind "#".
func (b *browser) open(view string) {
	b.t.Helper()
	b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(b.site+"/#"+view))
}

// value returns that of an expression in the page.
func value[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return out
}

// becomes waits until an expression is true.
func (b *browser) becomes(what, expression string) {
	b.t.Helper()
	clustertest.Eventually(b.t, patience, what, func() error {
		if value[bool](b, "!!("+expression+")") {
			return nil
		}
		return fmt.Errorf("%s is false; the page says:\n%s", expression, value[string](b, "document.body.innerText"))
	})
}

// says waits until the page shows a text.
func (b *browser) says(text string) {
	b.t.Helper()
	b.becomes("the page is to say "+text, "document.body.innerText.includes("+quote(text)+")")
}

// press presses a key as a keyboard does: what it writes comes after the page has had its say, which
// chromedp.KeyEvent does not wait for.
func (b *browser) press(key string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: key, Text: key})
		return err
	}))
}

// look sets the colours that the reader prefers, and the size of the screen.
func (b *browser) look(scheme string, width, height int64) {
	b.t.Helper()
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, media)
		return err
	}), chromedp.EmulateViewport(width, height))
}
