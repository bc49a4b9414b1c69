package phantomdb_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/phantomdb/phantomdb"

// floors lists the floors of the house from the ground up. A package may
// import its own floor and those below.
var floors = []string{"consensus", "cluster", "txn", "query", "root", "bench"}

// benchRooms are the rooms of the harness that look down on the whole house.
// The other rooms import no floor, so that the tests of any floor can use them
// without compiling the floors above.
var benchRooms = []string{"harness/target", "harness/scale", "harness/cmd"}

// consensusRooms orders the ground floor: a room imports only rooms that stand
// before it. On the other floors the root is the facade and imports the rooms.
var consensusRooms = []string{"consensus/codec", "consensus/raftlog", "consensus/transport", "consensus", "consensus/stream", "consensus/kv"}

// tops are rooms that stand on the facade of their floor instead of below it: nothing of
// the facade knows of them.
var tops = []string{"txn/saga"}

// place tells where a package lives: its floor, or "harness".
func place(dir string) (floor string, ok bool) {
	switch first, _, _ := strings.Cut(dir, "/"); {
	case dir == ".":
		return "root", true
	case first == "harness":
		for _, room := range benchRooms {
			if dir == room || strings.HasPrefix(dir, room+"/") {
				return "bench", true
			}
		}
		return "harness", true
	case first == "consensus":
		return first, slices.Contains(consensusRooms, dir)
	case slices.Contains(floors, first):
		return first, true
	default:
		return "", false
	}
}

// role is what a file is to its package.
type role int

const (
	code role = iota
	innerTest
	outerTest // package x_test, which may look up
)

// forbidden says why a file of package from must not import package to, both
// directories of the module, or returns "".
func forbidden(from, to string, r role) string {
	lower, upper := mustPlace(to), mustPlace(from)
	if r == outerTest || from == to {
		return ""
	}
	if lower == "harness" {
		if r == code && upper != "harness" && upper != "bench" {
			return "the database does not link its own measuring"
		}
		return ""
	}
	if upper == "harness" {
		return "this room of the harness imports no floor"
	}
	switch a, b := slices.Index(floors, upper), slices.Index(floors, lower); {
	case a < b:
		return fmt.Sprintf("%s stands below %s", upper, lower)
	case upper == "query" && lower == "consensus":
		return "query never imports consensus"
	case a == b && upper == "consensus":
		if slices.Index(consensusRooms, from) < slices.Index(consensusRooms, to) {
			return fmt.Sprintf("%s stands below %s", from, to)
		}
	case a == b && slices.Contains(tops, from) != slices.Contains(tops, to):
		if slices.Contains(tops, to) {
			return fmt.Sprintf("%s stands on top of its floor", to)
		}
	case a == b && strings.HasPrefix(from, to+"/"):
		return "a room does not import the facade of its floor"
	}
	return ""
}

func mustPlace(dir string) string {
	floor, ok := place(dir)
	if !ok {
		return "nowhere" // complained about once, by check
	}
	return floor
}

// source is one parsed Go file.
type source struct {
	dir, name string // slash-separated, relative to the module
	file      *ast.File
}

func (s source) role() role {
	switch {
	case !strings.HasSuffix(s.name, "_test.go"):
		return code
	case strings.HasSuffix(s.file.Name.Name, "_test"):
		return outerTest
	default:
		return innerTest
	}
}

// check returns everything that is wrong with a tree of sources.
func check(tree []source) []string {
	var problems []string
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	documented, tested, mains := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, s := range tree {
		if _, seen := documented[s.dir]; !seen {
			documented[s.dir] = false
			if _, ok := place(s.dir); !ok {
				complain("%s: has no place in the table of floors", s.dir)
			}
		}
		if s.name == "doc.go" && s.file.Doc != nil {
			documented[s.dir] = startsPackageComment(s.file)
		}
		if s.role() != code {
			tested[s.dir] = true
			mains[s.dir] = mains[s.dir] || callsHarnessMain(s)
		}
		for _, spec := range s.file.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			to, ours := strings.CutPrefix(name, module)
			if !ours {
				continue
			}
			if to = strings.TrimPrefix(to, "/"); to == "" {
				to = "."
			}
			if why := forbidden(s.dir, to, s.role()); why != "" {
				complain("%s/%s: imports %s: %s", s.dir, s.name, to, why)
			}
		}
	}
	for dir, ok := range documented {
		if !ok {
			complain("%s: no package comment in doc.go", dir)
		}
		if tested[dir] && !mains[dir] {
			complain("%s: has tests and no TestMain that calls harness.Main", dir)
		}
	}
	slices.Sort(problems)
	return problems
}

func startsPackageComment(f *ast.File) bool {
	text := f.Doc.Text()
	return strings.HasPrefix(text, "Package "+f.Name.Name+" ") ||
		f.Name.Name == "main" && strings.HasPrefix(text, "Command ")
}

// callsHarnessMain looks for a TestMain with the call harness.Main(m) in it,
// which in package harness itself may be Main(m).
func callsHarnessMain(s source) (found bool) {
	for _, decl := range s.file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Name.Name != "TestMain" || f.Recv != nil || f.Body == nil {
			continue
		}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch callee := call.Fun.(type) {
			case *ast.SelectorExpr:
				of, ok := callee.X.(*ast.Ident)
				found = found || ok && of.Name == "harness" && callee.Sel.Name == "Main"
			case *ast.Ident:
				found = found || s.file.Name.Name == "harness" && callee.Name == "Main"
			}
			return !found
		})
	}
	return found
}

func parse(t *testing.T, name string, text any) source {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	name = filepath.ToSlash(name)
	return source{dir: path.Dir(name), name: path.Base(name), file: file}
}

// parseTree parses the module's Go files, as the go tool sees them.
func parseTree(t *testing.T) (tree []source) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() && name != "." && (base == "testdata" || base[0] == '.' || base[0] == '_') {
			return fs.SkipDir
		}
		if !d.IsDir() && path.Ext(name) == ".go" {
			tree = append(tree, parse(t, filepath.FromSlash(name), nil))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestLayers keeps the order of the floors, a package comment in every doc.go,
// and harness.Main in every package with tests. It parses the sources itself:
// a child go list would be invisible to the test cache, which would then
// repeat an old "ok".
func TestLayers(t *testing.T) {
	tree := parseTree(t)
	if len(tree) < 10 {
		t.Fatalf("found %d Go files, expected the whole module", len(tree))
	}
	for _, problem := range check(tree) {
		t.Error(problem)
	}
}

// TestLayersReject shows that every rule can fail, on trees of one wrong file.
func TestLayersReject(t *testing.T) {
	imports := func(pkg string, dirs ...string) string {
		text := "// Package " + pkg + " is a package.\npackage " + pkg + "\n"
		for _, dir := range dirs {
			text += "import _ \"" + path.Join(module, dir) + "\"\n"
		}
		return text
	}
	const testMain = "package txn\nimport \"" + module + "/harness\"\nfunc TestMain(m *testing.M) { %s }\n"
	for _, c := range []struct{ name, file, text, want string }{
		{"down", "txn/doc.go", imports("txn", "cluster", "consensus", "consensus/raftlog"), ""},
		{"up", "consensus/doc.go", imports("consensus", "cluster"), "consensus/doc.go: imports cluster: consensus stands below cluster"},
		{"up to the root", "query/exec/doc.go", imports("exec", "."), "query/exec/doc.go: imports .: query stands below root"},
		{"past txn", "query/doc.go", imports("query", "consensus"), "query/doc.go: imports consensus: query never imports consensus"},
		{"room to facade", "txn/hlc/doc.go", imports("hlc", "txn"), "txn/hlc/doc.go: imports txn: a room does not import the facade of its floor"},
		{"top to facade", "txn/saga/doc.go", imports("saga", "txn", "txn/mvcc"), ""},
		{"facade to top", "txn/doc.go", imports("txn", "txn/saga"), "txn/doc.go: imports txn/saga: txn/saga stands on top of its floor"},
		{"room to top", "txn/lock/doc.go", imports("lock", "txn/saga"), "txn/lock/doc.go: imports txn/saga: txn/saga stands on top of its floor"},
		{"facade to room", "txn/doc.go", imports("txn", "txn/hlc"), ""},
		{"log to host", "consensus/raftlog/doc.go", imports("raftlog", "consensus"), "consensus/raftlog/doc.go: imports consensus: consensus/raftlog stands below consensus"},
		{"log to wire", "consensus/raftlog/doc.go", imports("raftlog", "consensus/transport"), "consensus/raftlog/doc.go: imports consensus/transport: consensus/raftlog stands below consensus/transport"},
		{"host to machine", "consensus/doc.go", imports("consensus", "consensus/kv"), "consensus/doc.go: imports consensus/kv: consensus stands below consensus/kv"},
		{"host to rooms", "consensus/doc.go", imports("consensus", "consensus/raftlog", "consensus/transport"), ""},
		{"machine to host", "consensus/kv/doc.go", imports("kv", "consensus"), ""},
		{"harness to floor", "harness/measure/doc.go", imports("measure", "consensus"), "harness/measure/doc.go: imports consensus: this room of the harness imports no floor"},
		{"harness to bench", "harness/doc.go", imports("harness", "harness/target"), "harness/doc.go: imports harness/target: this room of the harness imports no floor"},
		{"bench to all", "harness/cmd/phantom/doc.go", imports("phantom", ".", "harness", "harness/target", "consensus"), ""},
		{"floor to harness", "txn/doc.go", imports("txn", "harness/load"), "txn/doc.go: imports harness/load: the database does not link its own measuring"},
		{"root to bench", "doc.go", imports("phantomdb", "harness/target"), "./doc.go: imports harness/target: root stands below bench"},
		{"new floor", "cache/doc.go", imports("cache"), "cache: has no place in the table of floors"},
		{"new ground room", "consensus/extra/doc.go", imports("extra"), "consensus/extra: has no place in the table of floors"},
		{"no comment", "txn/doc.go", "package txn\n", "txn: no package comment in doc.go"},
		{"wrong comment", "txn/doc.go", "// Hello.\npackage txn\n", "txn: no package comment in doc.go"},
		{"comment elsewhere", "txn/txn.go", imports("txn"), "txn: no package comment in doc.go"},
		{"outer test up", "consensus/x_test.go", imports("consensus_test", ".", "txn"), "consensus: has tests and no TestMain that calls harness.Main"},
		{"inner test up", "txn/x_test.go", imports("txn", "query"), "txn/x_test.go: imports query: txn stands below query"},
		{"other main", "txn/x_test.go", fmt.Sprintf(testMain, "harness.Run(m)"), "txn: has tests and no TestMain that calls harness.Main"},
		{"main", "txn/x_test.go", fmt.Sprintf(testMain, "os.Exit(harness.Main(m))"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := []source{parse(t, filepath.FromSlash(c.file), c.text)}
			got := check(tree)
			if tree[0].role() != code || path.Base(c.file) != "doc.go" {
				// These trees lack more than what the case is about.
				got = slices.DeleteFunc(got, func(p string) bool {
					return p != c.want && (strings.HasSuffix(p, "in doc.go") || strings.HasSuffix(p, "calls harness.Main"))
				})
			}
			var want []string
			if c.want != "" {
				want = []string{c.want}
			}
			if !slices.Equal(got, want) {
				t.Errorf("check says %q, expected %q", got, want)
			}
		})
	}
}
