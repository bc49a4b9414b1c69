package report

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// browser is the Chromium to test with: that of PHANTOM_CHROMIUM, which must be
// there then, or one that is found. The test is skipped where there is none.
func browser(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("PHANTOM_CHROMIUM"); path != "" {
		path, err := exec.LookPath(path)
		require.NoError(t, err, "PHANTOM_CHROMIUM names no program")
		return path
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no Chromium in PATH, and PHANTOM_CHROMIUM is not set: nobody has looked at the page")
	return ""
}

// sight is what testdata/selfcheck.js tells of one page.
type sight struct {
	Opened   bool    `json:"opened"` // a case, by its link
	Taken    bool    `json:"taken"`  // a command, by its button
	Drawn    int     `json:"drawn"`
	Tables   []int   `json:"tables"` // rows of the table beside each chart
	First    looks   `json:"first"`
	Switched []looks `json:"switched"` // after each use of the button
}

type looks struct {
	Name       string  `json:"name"`
	Width      int     `json:"width"`
	Wide       int     `json:"wide"`       // of everything in the page
	Background float64 `json:"background"` // luminance
	Text       float64 `json:"text"`       // the smallest contrast
	Lines      float64 `json:"lines"`
	Charts     []struct {
		Title   string  `json:"title"`
		Label   string  `json:"label"`
		Width   float64 `json:"width"`
		Room    float64 `json:"room"`
		Colours int     `json:"colours"`
		Hits    []int   `json:"hits"` // pixels of each line's colour
	} `json:"charts"`
}

var console = regexp.MustCompile(`CONSOLE.*`)

// see opens a page in frames of the given widths, as wide as a phone and wider,
// and returns what is seen in each.
func see(t *testing.T, chromium, page string, dark bool, widths ...int) []sight {
	t.Helper()
	dir := t.TempDir()
	check, err := os.ReadFile(filepath.Join("testdata", "selfcheck.js"))
	require.NoError(t, err)
	page = strings.Replace(page, "</body>", "<script>"+string(check)+"</script></body>", 1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "page.html"), []byte(page), 0o600))
	var outer strings.Builder
	outer.WriteString(`<!DOCTYPE html><body><script>addEventListener("message", (e) => {
		const frame = [...document.querySelectorAll("iframe")].findIndex((f) => f.contentWindow === e.source);
		document.body.append(Object.assign(document.createElement("pre"), { id: "seen" + frame, textContent: e.data }));
	})</script>`)
	for _, w := range widths {
		fmt.Fprintf(&outer, `<iframe src="page.html" width="%d" height="900" style="border:0"></iframe>`, w)
	}
	path := filepath.Join(dir, "outer.html")
	require.NoError(t, os.WriteFile(path, []byte(outer.String()), 0o600))

	scheme := "1"
	if dark {
		scheme = "0"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// The sandbox needs rights that containers lack, and the page is ours.
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--no-default-browser-check", "--window-size=1600,1000",
		"--user-data-dir="+filepath.Join(dir, "profile"), "--blink-settings=preferredColorScheme="+scheme,
		"--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom", "file:///"+strings.TrimPrefix(filepath.ToSlash(path), "/"))
	cmd.WaitDelay = 10 * time.Second
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(t, err, errs.String())
	require.Empty(t, console.FindAllString(errs.String(), -1), "the page complains")

	seen := make([]sight, len(widths))
	for i := range widths {
		m := regexp.MustCompile(fmt.Sprintf(`(?s)<pre id="seen%d">(.*?)</pre>`, i)).FindSubmatch(out)
		require.NotNil(t, m, "frame %d told nothing; the browser said:\n%s", i, errs.String())
		require.NoError(t, json.Unmarshal([]byte(html.UnescapeString(string(m[1]))), &seen[i]))
	}
	return seen
}

// requireLooks checks what must hold in every width and theme.
func requireLooks(t *testing.T, l looks, width int, dark bool) {
	t.Helper()
	require.Equal(t, width, l.Width)
	require.LessOrEqual(t, l.Wide, width, "the page scrolls sideways")
	require.Equal(t, dark, l.Background < 0.2, "luminance %v", l.Background)
	// The Web Content Accessibility Guidelines 2.1 ask for 4.5 in text (1.4.3)
	// and for 3 in graphics (1.4.11).
	require.GreaterOrEqual(t, l.Text, 4.5)
	require.GreaterOrEqual(t, l.Lines, 3.0)
	for _, c := range l.Charts {
		require.Greater(t, c.Colours, 5, "%s is blank", c.Title)
		require.NotEmpty(t, c.Hits, c.Title)
		for i, n := range c.Hits {
			require.Greater(t, n, 20, "%s: line %d is not drawn", c.Title, i)
		}
		require.LessOrEqual(t, c.Width, c.Room, "%s is wider than its place", c.Title)
		require.Regexp(t, `^.+: (latency|throughput|memory|CPU).* by (percentile of operations|time since the start); the same numbers`, c.Label)
	}
}

// The page is opened as people open it: from a file, light and dark, on a
// phone, a tablet and a desk.
func TestPageInChromium(t *testing.T) {
	chromium, page := browser(t), written(t, build(t, fixture(t)).WriteHTML)
	widths := []int{390, 768, 1280}
	for _, dark := range []bool{false, true} {
		t.Run(map[bool]string{false: "light", true: "dark"}[dark], func(t *testing.T) {
			for i, s := range see(t, chromium, page, dark, widths...) {
				require.True(t, s.Opened, "a link opens no case")
				require.True(t, s.Taken, "a button copies no command")
				require.Equal(t, 6, s.Drawn)
				require.Len(t, s.First.Charts, 6, "percentiles of both, percentiles, heat map and three series")
				require.Len(t, s.Tables, 6)
				for _, rows := range s.Tables {
					require.Positive(t, rows, "a chart has no table")
				}
				requireLooks(t, s.First, widths[i], dark)
				require.Len(t, s.Switched, 3)
				for k, want := range []struct {
					name string
					dark bool
				}{{"Theme: light", false}, {"Theme: dark", true}, {"Theme: system", dark}} {
					require.Equal(t, want.name, s.Switched[k].Name)
					requireLooks(t, s.Switched[k], widths[i], want.dark)
				}
			}
		})
	}
}
