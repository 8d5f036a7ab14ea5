// Package page tests the page of the directive admin in a real browser: Debian's Chromium,
// headless, at a program that serves a folder of manifests.
package page

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/miekg/dns"
)

var update = flag.Bool("update", false, "write the screenshots in docs")

func TestMain(m *testing.M) { kubetest.Main(m.Run) }

// hostile is markup that would run a script, and has no character that the text around it changes.
const hostile = `<img src=x onerror=hacked=1>`

func quote(text string) string {
	out, _ := json.Marshal(text)
	return string(out)
}

// start runs the program with the manifests of testdata, and returns where the page is and
// where DNS is.
func start(t *testing.T) (site, server, folder string) {
	t.Helper()
	folder = t.TempDir()
	if err := os.CopyFS(folder, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, hostile+".yaml"), []byte("kind: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	site, server, _ = startIn(t, folder, 100)
	return site, server, folder
}

// startIn runs the program with a folder of manifests, and waits until it has so many Services.
func startIn(t *testing.T, folder string, services int) (site, server string, p *kubetest.Process) {
	t.Helper()
	web, names, metrics := kubetest.FreePort(t), kubetest.FreePort(t), kubetest.FreePort(t)
	p = kubetest.StartProgram(t, nil, false, fmt.Sprintf(`.:%s {
	bind 127.0.0.1
	admin %s/admin.sock :%s
	prometheus 127.0.0.1:%s
	clusterip cluster.local {
		manifests %s
		service_cidr 10.0.0.0/9
	}
	kernelnat {
		backend nftables
		healthz off
		dry_run
	}
}`, names, t.TempDir(), web, metrics, folder))
	site = "http://127.0.0.1:" + web
	clustertest.Eventually(t, 6*patience, "the page answers", func() error {
		answer, err := http.Get(site + "/services")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		var list struct{ Total int }
		if err := json.NewDecoder(answer.Body).Decode(&list); err != nil || list.Total < services {
			return fmt.Errorf("%d Services, %w", list.Total, err)
		}
		return nil
	})
	return site, "127.0.0.1:" + names, p
}

// ask sends queries for a while.
func ask(t *testing.T, server string, n int) {
	t.Helper()
	for i := range n {
		m := new(dns.Msg).SetQuestion([]string{"web.shop.svc.cluster.local.", "db.data.svc.cluster.local.", "nobody.shop.svc.cluster.local."}[i%3], dns.TypeA)
		if _, err := dns.Exchange(m, server); err != nil {
			t.Fatal(err)
		}
	}
}

// again has the page ask now, and not in five seconds.
const again = `document.dispatchEvent(new Event("visibilitychange")), true`

func TestPage(t *testing.T) {
	site, server, folder := start(t)
	b := newBrowser(t, site)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *browser)
	}{
		{"overview", func(_ *testing.T, b *browser) { overview(b, server) }},
		{"search", search},
		{"wording", wording},
		{"missing port", missingPort},
		{"tables", tables},
		{"unknown view", unknownView},
		{"keyboard", keyboard},
		{"hostile", hostileText},
		{"narrow", narrow},
		{"screenshots", func(t *testing.T, b *browser) { screenshots(t, b, server, folder) }},
		{"follows", func(t *testing.T, b *browser) { follows(t, b, folder) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.t = t
			b.look("light", 1200, 800)
			test.run(t, b)
		})
	}
	b.t = t
}

// The overview counts, and its charts move.
func overview(b *browser, server string) {
	b.open("/")
	b.says("dry_run is set")
	b.becomes("nothing is said of rules that are not written", `!/In step|Audited|Services with rules/.test(document.body.innerText)`)
	ask(b.t, server, 30)
	value[bool](b, again)
	b.becomes("the rate of queries", `/all \d/.test(document.querySelector(".charts .now").innerText)`)
	b.becomes("three charts", `document.querySelectorAll(".charts canvas").length === 3`)
	b.becomes("something is wrong", `document.querySelector(".numbers .wrong a").innerText.match(/^\d+/)[0] > 0`)
	b.do(chromedp.Click(".numbers .wrong a"))
	b.says("shop/empty does not work")
	b.becomes("only what is wrong", `document.querySelector(".filter input[type=checkbox]").checked && !document.body.innerText.includes("shop/web\n")`)
}

// Services are searched and paged by the server.
func search(_ *testing.T, b *browser) {
	b.open("/services")
	b.says("Page 1 of 2")
	b.becomes("a page of a hundred", `document.querySelectorAll(".row").length === 100`)
	b.do(chromedp.Click("a[rel=next]"))
	b.says("Page 2 of 2")
	b.do(chromedp.SendKeys(".filter input[type=search]", "shop/web"))
	b.becomes("one is found", `document.querySelectorAll(".row").length === 1`)
	b.says("33.3 %")
	b.says("not ready")
	b.says("web.shop.svc.cluster.local.")
	b.says("10.43.0.10:80/TCP")
	b.do(chromedp.Click(".row a"))
	b.says("shop/web would work: 10.43.0.10:80/TCP leads to 3 endpoints")
	b.says("was not looked at: dry_run is set")
	b.says("planned, to 3 endpoints")
	b.says("no: not ready")
	b.becomes("the path is drawn", `document.querySelectorAll("svg.graph .link:not(.none)").length === 5`)
	b.becomes("most goes where the line is thick", `[...document.querySelectorAll("svg.graph .link")].every((l) => l.getAttribute("stroke-width") >= 3)`)
}

// Words are those of coredns explain.
func wording(_ *testing.T, b *browser) {
	b.open("/explain?target=shop/empty")
	b.says("connections are refused: no endpoint counts")
	b.open("/services?search=shop/empty")
	b.says("connections are refused: no endpoint counts")
	b.open("/explain?target=nobody.shop")
	b.says("does not exist")
	b.becomes("none of the JSON's", `!/nxdomain|elsewhere/.test(document.body.innerText)`)
}

// The path to a port that the Service lacks ends there.
func missingPort(_ *testing.T, b *browser) {
	for _, target := range []string{"10.43.0.10:81/TCP", "10.43.0.10:8", "10.43.0.10:80/UDP"} {
		b.open("/explain?target=" + target)
		b.says("which has no port")
		b.becomes("the port is drawn as a fault", `document.querySelector("svg.graph .frontend.bad").textContent === `+quote(target+"no such port")+` && document.querySelectorAll("svg.graph .link:not(.none)").length === 1`)
	}
	b.open("/explain?target=10.43.0.10:80")
	b.becomes("a port that there is, is not", `document.querySelector("svg.graph .frontend:not(.bad)")`)
}

// Tables have what there is to tell, and heads that can be read.
func tables(_ *testing.T, b *browser) {
	heads := func(caption string) string {
		return `[...[...document.querySelectorAll("table")].find((t) => t.caption.textContent === ` + quote(caption) + `).tHead.querySelectorAll("th")].filter((h) => h.offsetParent).map((h) => h.textContent.trim()).join()`
	}
	b.open("/explain?target=shop/web")
	b.says("shop/web would work")
	b.becomes("all columns", heads("Endpoints")+` === "Endpoint,Port,Pod,Node,Zone,State,Counts,Share"`)
	b.becomes("no columns about a kernel that was not looked at", heads("Frontends, IPv4")+` === "Frontend,Kind,In force"`)
	b.becomes("heads are in one line each", `[...document.querySelectorAll("th")].every((h) => h.getClientRects()[0].height < 40)`)
	b.open("/explain?target=data/db")
	b.says("data/db works")
	b.becomes("no nodes nor zones", `!/Node|Zone/.test(`+heads("Endpoints")+`)`)
}

// An address of a view that there is not says so.
func unknownView(_ *testing.T, b *browser) {
	for _, view := range []string{"/foo", "/constructor"} {
		b.open(view)
		b.says("There is no view #" + view)
	}
	b.do(chromedp.Click("main a"))
	b.says("dry_run is set")
}

// All can be done without a mouse.
func keyboard(_ *testing.T, b *browser) {
	b.open("/")
	b.says("Services")
	b.press("/")
	b.becomes("/ goes to the search box", `document.activeElement.id === "target"`)
	b.becomes("the focus is visible", `getComputedStyle(document.activeElement).outlineStyle === "solid"`)
	b.do(chromedp.KeyEvent("web.shop" + kb.Enter))
	b.says("web.shop would work")
	b.press("/")
	b.do(chromedp.KeyEvent("wbe.shop" + kb.Enter))
	b.says("the nearest is shop/web")
	b.says("To mend it: ask for web.shop")
	b.open("/services?search=shop")
	b.becomes("rows", `document.querySelectorAll(".row").length > 2`)
	b.do(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent("k"), chromedp.KeyEvent("j"))
	b.becomes("arrows go from row to row", `document.activeElement === document.querySelectorAll(".row a")[1]`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.says("shop/outside works: it is an alias of www.example.com")
	b.becomes("who hears the page is told", `document.querySelector("h2.verdict").getAttribute("role") === "status" && document.querySelector("svg.graph title").textContent.includes("any client")`)
}

// Text that comes from manifests, file names and the address is shown, and is not markup.
func hostileText(_ *testing.T, b *browser) {
	harmless := func() {
		b.t.Helper()
		b.says(hostile)
		if value[bool](b, `"hacked" in window || document.querySelector("img") != null`) {
			b.t.Error("it has become markup")
		}
	}
	b.open("/explain?target=shop/zoned") // the zone of an endpoint
	b.says("shop/zoned")
	harmless()
	b.open("/explain?target=" + strings.ReplaceAll(hostile, " ", "%20"))
	harmless()
	b.open("/explain?target=shop%2F" + strings.ReplaceAll(hostile, " ", "%C2%A0"))
	b.says("is no target")
	b.open("/") // the name of a file
	harmless()
	b.allow("requires 'TrustedHTML'")
	if value[string](b, `(() => { try { document.body.innerHTML = "<b>x</b>"; return "set"; } catch (e) { return e.name; } })()`) != "TypeError" {
		b.t.Error("the policy lets markup be made of text")
	}
}

// On a phone nothing is wider than the screen.
func narrow(t *testing.T, b *browser) {
	b.look("dark", 360, 740)
	for _, view := range []string{"/", "/services", "/services?wrong=1", "/explain?target=shop/web", "/explain?target=web.shop", "/explain?target=data/db", "/explain?target=shop/zoned"} {
		b.open(view)
		b.becomes(view, `document.querySelector("main").innerText.length > 100 && !document.querySelector("[aria-busy]")`)
		if wide := value[int](b, `Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)`); wide > 360 {
			t.Errorf("%s is %d wide: %s", view, wide, value[string](b, `[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > 361).slice(0, 5).map((e) => e.outerHTML.slice(0, 200)).join("\n")`))
		}
		if out := value[int](b, `[...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > 361 && !e.closest("canvas, .hidden")).length`); out > 0 {
			t.Errorf("%s: %d elements go beyond the screen", view, out)
		}
	}
}

// largest is that of a screenshot in docs.
const largest = 150 << 10

func screenshots(t *testing.T, b *browser, server, folder string) {
	if err := os.Remove(filepath.Join(folder, hostile+".yaml")); err != nil {
		t.Fatal(err)
	}
	for _, shot := range []struct{ file, scheme, view, says string }{
		{"page-light.png", "light", "/", "is read, and followed"},
		{"page-dark.png", "dark", "/explain?target=web.shop", "web.shop would work"},
	} {
		b.look(shot.scheme, 1200, 800)
		b.open(shot.view)
		b.says(shot.says)
		if *update && shot.view == "/" {
			for i := range 30 { // so many points
				ask(t, server, 200+40*(i%7))
				value[bool](b, again)
				time.Sleep(500 * time.Millisecond)
			}
		}
		light := value[bool](b, `getComputedStyle(document.body).backgroundColor.match(/\d+/g)[0] > 128`)
		if light != (shot.scheme == "light") {
			t.Errorf("%s: the background is light: %t", shot.scheme, light)
		}
		png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if len(png) > largest {
			t.Errorf("%s has %d bytes", shot.file, len(png))
		}
		path := filepath.Join("..", "..", "docs", shot.file)
		if *update {
			if err := os.WriteFile(path, png, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%v: go test ./test/page -update", err)
		}
	}
}

// What changes shows, and a page that is hidden asks nothing.
func follows(t *testing.T, b *browser, folder string) {
	b.open("/services?search=shop/new")
	b.says("None.")
	manifest := "apiVersion: v1\nkind: Service\nmetadata: {name: new, namespace: shop}\nspec: {ports: [{port: 80}]}\n"
	if err := os.WriteFile(filepath.Join(folder, "new.yaml"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	b.says("new.shop.svc.cluster.local.")
	value[bool](b, `Object.defineProperty(document, "hidden", { value: true }), window.asked = 0, window.fetch = () => { asked++; return new Promise(() => {}) }, `+again)
	time.Sleep(6 * time.Second) // longer than between two requests: that there is none has no condition to wait for
	if n := value[int](b, "asked"); n != 0 {
		t.Errorf("a page that is hidden asks %d times", n)
	}
}
